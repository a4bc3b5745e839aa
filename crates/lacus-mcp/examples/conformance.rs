//! The server with what the conformance suite of the protocol asks for beside: tools, resources and prompts whose contents it knows.
//!
//! `conformance LISTEN` prints the address; the suite is asked as `python/tests/test_agents.py` does.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use lacus::{Config, Principal};
use lacus_core::AgentLimits;
use lacus_mcp::{Agents, Origins, over_http};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams, CompleteResult, ContentBlock,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetTaskParams, GetTaskResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, Prompt,
    PromptArgument, PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate, Role, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

/// A red dot, and a moment of silence.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

const TOOLS: [(&str, &str); 11] = [
    ("test_simple_text", "Gives a text"),
    ("test_image_content", "Gives an image"),
    ("test_audio_content", "Gives a sound"),
    ("test_embedded_resource", "Gives a resource"),
    ("test_multiple_content_types", "Gives a text, an image and a resource"),
    ("test_error_handling", "Fails"),
    ("test_tool_with_progress", "Tells how far it is"),
    ("greet", "Greets"),
    ("slow_compute", "Takes as many seconds as it is told"),
    ("failing_job", "Fails after a second"),
    ("protocol_error_job", "Fails after a second, by an error of the protocol"),
];

type Context = RequestContext<RoleServer>;

#[derive(Clone)]
struct Fixtures(Agents);

fn embedded(uri: &str) -> ResourceContents {
    ResourceContents::text("This is an embedded resource content.", uri).with_mime_type("text/plain")
}

impl Fixtures {
    async fn called(&self, name: &str, context: &Context) -> Option<CallToolResult> {
        let content = match name {
            "test_simple_text" => vec![ContentBlock::text("This is a simple text response for testing.")],
            "test_image_content" => vec![ContentBlock::image(PNG, "image/png")],
            "test_audio_content" => vec![ContentBlock::audio(WAV, "audio/wav")],
            "test_embedded_resource" => vec![ContentBlock::resource(embedded("test://embedded-resource"))],
            "test_multiple_content_types" => vec![
                ContentBlock::text("Multiple content types test:"),
                ContentBlock::image(PNG, "image/png"),
                ContentBlock::resource(embedded("test://mixed-content-resource")),
            ],
            "test_error_handling" => {
                return Some(CallToolResult::error(vec![ContentBlock::text("This tool intentionally returns an error for testing")]));
            }
            "test_tool_with_progress" => {
                if let Some(token) = context.meta.get_progress_token() {
                    for progress in [0.0, 50.0, 100.0] {
                        let mut told = ProgressNotificationParam::new(token.clone(), progress);
                        told.total = Some(100.0);
                        // Who has gone away needs no answer.
                        let _ = context.peer.notify_progress(told).await;
                    }
                }
                vec![ContentBlock::text("done")]
            }
            _ => return None,
        };
        Some(CallToolResult::success(content))
    }

    fn prompt(request: &GetPromptRequestParams) -> Option<GetPromptResult> {
        let argument =
            |name: &str| request.arguments.as_ref().and_then(|given| given.get(name)).and_then(Value::as_str).unwrap_or_default();
        let messages = match request.name.as_str() {
            "test_simple_prompt" => vec![PromptMessage::new_text(Role::User, "This is a simple prompt for testing.")],
            "test_prompt_with_arguments" => {
                let text = format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
                vec![PromptMessage::new_text(Role::User, text)]
            }
            "test_prompt_with_embedded_resource" => vec![
                PromptMessage::new(Role::User, ContentBlock::resource(embedded(argument("resourceUri")))),
                PromptMessage::new_text(Role::User, "Please process the embedded resource above."),
            ],
            "test_prompt_with_image" => vec![
                PromptMessage::new(Role::User, ContentBlock::image(PNG, "image/png")),
                PromptMessage::new_text(Role::User, "Please analyze the image above."),
            ],
            _ => return None,
        };
        Some(GetPromptResult::new(messages))
    }

    fn resource(uri: &str) -> Option<ResourceContents> {
        match uri {
            "test://static-text" => {
                Some(ResourceContents::text("This is the content of the static text resource.", uri).with_mime_type("text/plain"))
            }
            "test://static-binary" => Some(ResourceContents::blob(PNG, uri).with_mime_type("image/png")),
            _ => {
                let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
                let text = format!("{{\"id\": \"{id}\", \"templateTest\": true, \"data\": \"Data for ID: {id}\"}}");
                Some(ResourceContents::text(text, uri).with_mime_type("application/json"))
            }
        }
    }
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        self.0.get_info()
    }

    async fn list_tools(&self, request: Option<PaginatedRequestParams>, context: Context) -> Result<ListToolsResult, ErrorData> {
        let mut listed = self.0.list_tools(request, context).await?;
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        let schema = Arc::new(schema);
        listed.tools.extend(TOOLS.map(|(name, about)| Tool::new(name, about, Arc::clone(&schema))));
        Ok(listed)
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: Context) -> Result<CallToolResponse, ErrorData> {
        if let Some(result) = self.called(&request.name, &context).await {
            return Ok(result.into());
        }
        let argument = |name: &str| request.arguments.as_ref().and_then(|given| given.get(name));
        let seconds = match &*request.name {
            "slow_compute" => argument("seconds").and_then(Value::as_f64).unwrap_or(1.0),
            "failing_job" | "protocol_error_job" => 1.0,
            "greet" => {
                let name = argument("name").and_then(Value::as_str).unwrap_or_default();
                return Ok(CallToolResult::success(vec![ContentBlock::text(format!("Hello, {name}!"))]).into());
            }
            _ => return self.0.call_tool(request, context).await,
        };
        let work = async move {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            match &*request.name {
                "slow_compute" => Ok(CallToolResult::success(vec![ContentBlock::text("computed")])),
                "failing_job" => Ok(CallToolResult::error(vec![ContentBlock::text("This job fails")])),
                _ => Err(ErrorData::internal_error("this job fails", None)),
            }
        };
        self.0.or_task(&context, work).await
    }

    async fn get_task(&self, request: GetTaskParams, context: Context) -> Result<GetTaskResult, ErrorData> {
        self.0.get_task(request, context).await
    }

    async fn update_task(&self, request: UpdateTaskParams, context: Context) -> Result<(), ErrorData> {
        self.0.update_task(request, context).await
    }

    async fn cancel_task(&self, request: CancelTaskParams, context: Context) -> Result<(), ErrorData> {
        self.0.cancel_task(request, context).await
    }

    async fn list_resources(&self, request: Option<PaginatedRequestParams>, context: Context) -> Result<ListResourcesResult, ErrorData> {
        let mut listed = self.0.list_resources(request, context).await?;
        let known = [("test://static-text", "text"), ("test://static-binary", "binary")];
        listed.resources.extend(known.map(|(uri, name)| Resource::new(uri, name)));
        Ok(listed)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut listed = self.0.list_resource_templates(request, context).await?;
        listed.resource_templates.push(ResourceTemplate::new("test://template/{id}/data", "template"));
        Ok(listed)
    }

    async fn read_resource(&self, request: ReadResourceRequestParams, context: Context) -> Result<ReadResourceResponse, ErrorData> {
        match Self::resource(&request.uri) {
            Some(contents) => Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(0).into()),
            None => self.0.read_resource(request, context).await,
        }
    }

    async fn list_prompts(&self, request: Option<PaginatedRequestParams>, context: Context) -> Result<ListPromptsResult, ErrorData> {
        let mut listed = self.0.list_prompts(request, context).await?;
        let prompt = |name: &str, arguments: &[&str]| {
            let argument = |name: &&str| PromptArgument::new(*name).with_description("of the suite").with_required(true);
            Prompt::new(name, Some("of the suite"), (!arguments.is_empty()).then(|| arguments.iter().map(argument).collect()))
        };
        listed.prompts.extend([
            prompt("test_simple_prompt", &[]),
            prompt("test_prompt_with_arguments", &["arg1", "arg2"]),
            prompt("test_prompt_with_embedded_resource", &["resourceUri"]),
            prompt("test_prompt_with_image", &[]),
        ]);
        Ok(listed)
    }

    async fn get_prompt(&self, request: GetPromptRequestParams, context: Context) -> Result<GetPromptResponse, ErrorData> {
        match Self::prompt(&request) {
            Some(result) => Ok(result.into()),
            None => self.0.get_prompt(request, context).await,
        }
    }

    async fn complete(&self, request: CompleteRequestParams, context: Context) -> Result<CompleteResult, ErrorData> {
        self.0.complete(request, context).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let engine = Config::discover(&std::env::temp_dir())?.engine()?;
    // The suite tells tasks by jobs of a second.
    let limits = AgentLimits { patience: Duration::from_millis(200), ..AgentLimits::default() };
    let fixtures = Fixtures(Agents::of(engine, limits, Principal::owner()));
    let origins = ["localhost", "127.0.0.1"].map(|name| format!("http://{name}:{}", address.port()));
    let allowed = Origins { hosts: vec![address.to_string()], origins: origins.to_vec() };
    let service = over_http(fixtures, &allowed, CancellationToken::new());
    writeln!(std::io::stdout(), "agents ask at http://{address}/mcp")?;
    loop {
        let (connection, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let answers = service_fn(move |request| {
                let mut service = service.clone();
                async move { Ok::<_, Infallible>(service.call(request).await.unwrap_or_else(|never| match never {})) }
            });
            // Whoever goes away in the middle of a question needs no answer.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), answers).await;
        });
    }
}
