//! Lacus for agents: a server of the [Model Context Protocol](https://modelcontextprotocol.io), revisions 2026-07-28 and 2025-11-25.
//!
//! ```text
//! a call -> who asks (a Session that only reads what the lake names) -> `tools` -> the engine -> `answer`: words, and JSON that says the same
//! ```
//!
//! * `definitions` are the tools as clients list them, `arguments` what they are asked with, `limits` what one may ask for at most;
//! * `values` shows values so that none can be taken for anything else, `kept` keeps answers to be read page by page, `tasks` calls that take long;
//! * `resources` tells of tables, records and files, `prompts` how a careful scientist works;
//! * [`Agents`] is all of that behind the protocol; [`over_http`] makes an HTTP service of it, [`over_stdio`] speaks by standard input and
//!   output.

mod answer;
mod arguments;
mod definitions;
mod kept;
mod limits;
mod progress;
mod prompts;
mod resources;
mod tasks;
mod tools;
mod transport;
mod uris;
mod values;

use std::sync::Arc;

use lacus_core::{AgentLimits, Bearer, Error, Kind, Principal, TraceParent};
use lacus_engine::{Engine, Session};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams, CompleteResult,
    ErrorCode, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};
pub use transport::{HttpService, Origins, over_http, over_stdio};

use crate::kept::{Asker, Store};
use crate::progress::Teller;
use crate::tasks::Tasks;
use crate::tools::Call;

/// Through what its queries come, as records have it.
pub const DOOR: &str = "mcp";
/// For how long a client may take a list for the one that is.
const FRESH_MS: u64 = 60_000;

/// An engine behind the protocol. Clones are the same server.
#[derive(Clone)]
pub struct Agents(Arc<Inner>);

struct Inner {
    engine: Engine,
    limits: AgentLimits,
    store: Store,
    tasks: Tasks,
    /// Who asks when requests don't say it.
    asker: Option<Bearer>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agents").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Agents {
    /// A server that asks each request who it is of.
    pub fn new(engine: Engine, limits: AgentLimits) -> Self {
        Self(Arc::new(Inner { engine, limits, store: Store::default(), tasks: Tasks::default(), asker: None }))
    }

    /// A server for one principal alone, as over standard input.
    pub fn of(engine: Engine, limits: AgentLimits, principal: Principal) -> Self {
        let asker = Some(Bearer { principal, expires: None });
        Self(Arc::new(Inner { engine, limits, store: Store::default(), tasks: Tasks::default(), asker }))
    }

    /// The tools, as clients list them.
    pub fn tools() -> Vec<Tool> {
        definitions::tools()
    }

    /// Who a request is of, and what it may use: never more than reading what the lake names.
    fn asked(&self, context: &RequestContext<RoleServer>) -> Result<Asked, ErrorData> {
        let of_request = context.extensions.get::<http::request::Parts>().and_then(|parts| parts.extensions.get::<Bearer>());
        // Who is not known is nobody, not the owner.
        let Some(asker) = self.0.asker.as_ref().or(of_request) else {
            return Err(ErrorData::internal_error("nobody found out who asks", None));
        };
        let session = Session::through(DOOR, &asker.principal, false).until(asker.expires).reading_only().within_lake();
        let session = session.for_at_most(self.0.limits.deadline);
        let teller = Teller::new(context.meta.get_progress_token().map(|token| (context.peer.clone(), token)), context.ct.clone());
        // What is kept was computed by the rules of its time.
        let asker = Asker { principal: asker.principal.clone(), rights: self.0.engine.rights(&session) };
        Ok(Asked { session, asker, teller })
    }

    fn call<'a>(&'a self, asked: &'a Asked) -> Call<'a> {
        let Asked { session, asker, teller } = asked;
        Call { engine: &self.0.engine, limits: &self.0.limits, store: &self.0.store, session, asker, teller }
    }

    /// What `work` gives, unless whoever asked goes away or it takes too long.
    async fn within<T>(
        &self,
        context: &RequestContext<RoleServer>,
        work: impl Future<Output = lacus_core::Result<T>>,
    ) -> lacus_core::Result<T> {
        tokio::select! {
            done = self.in_time(work) => done,
            () = context.ct.cancelled() => Err(Engine::cancelled()),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = lacus_core::Result<T>>) -> lacus_core::Result<T> {
        let deadline = self.0.limits.deadline;
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
            let error = Error::new(Kind::DeadlineExceeded, format!("the call took more than {} s, and was ended", deadline.as_secs()));
            Err(error.hint("narrow it: `estimate` tells what a query reads"))
        })
    }

    /// What a tool gives.
    async fn answered(&self, asked: &Asked, name: &str, arguments: Option<JsonObject>) -> Result<CallToolResult, ErrorData> {
        let call = self.call(asked);
        match self.in_time(async { call.run(name, arguments).await.transpose() }).await {
            Ok(Some(answer)) => Ok(answer.into_result()),
            Ok(None) => {
                let known = definitions::tools().iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>().join(", ");
                Err(ErrorData::invalid_params(format!("no tool of this name; there are {known}"), None))
            }
            Err(error) => Ok(answer::failed(&error)),
        }
    }

    /// What `work` gives, or a task where that takes long and the client knows of tasks: for tools beside those of the server.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn or_task(
        &self,
        context: &RequestContext<RoleServer>,
        work: impl Future<Output = Result<CallToolResult, ErrorData>> + Send + 'static,
    ) -> Result<CallToolResponse, ErrorData> {
        let Asked { asker, teller, .. } = self.asked(context)?;
        let agents = self.clone();
        let work = async move { agents.in_time(async { Ok(work.await) }).await.unwrap_or_else(|error| Ok(answer::failed(&error))) };
        self.told_or_task(context, &asker, teller.said(), work).await
    }

    async fn told_or_task(
        &self,
        context: &RequestContext<RoleServer>,
        asker: &Asker,
        told: watch::Receiver<String>,
        work: impl Future<Output = Result<CallToolResult, ErrorData>> + Send + 'static,
    ) -> Result<CallToolResponse, ErrorData> {
        let done = async {
            if !context.meta.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks()) {
                return work.await.map(Into::into);
            }
            let mut work = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
            if let Ok(done) = tokio::time::timeout(self.0.limits.patience, &mut work).await {
                return tasks::ended(done).map(Into::into);
            }
            match self.0.tasks.begin(work, told, asker, &self.0.limits) {
                Ok(task) => Ok(CallToolResponse::Task(task)),
                Err(work) => tasks::ended(work.await).map(Into::into),
            }
        };
        tokio::select! {
            biased;
            // No task is begun for who has gone away.
            () = context.ct.cancelled() => Ok(answer::failed(&Engine::cancelled()).into()),
            done = done => done,
        }
    }
}

/// Who asks.
struct Asked {
    session: Session,
    asker: Asker,
    teller: Teller,
}

/// The span of a call that says which trace it belongs to, for who follows traces.
fn span_of(context: &RequestContext<RoleServer>) -> Span {
    // It stands in every line of the log that belongs to the call.
    match context.meta.get_traceparent().filter(|text| TraceParent::read(text).is_some()) {
        Some(traceparent) => tracing::info_span!("call", traceparent),
        None => Span::none(),
    }
}

/// An error of the protocol: for requests that no tool can answer.
fn refused(error: &Error) -> ErrorData {
    let message = error.remedy().map_or_else(|| error.message().to_owned(), |hint| format!("{}; {hint}", error.message()));
    let message = values::clean(&message, 2_000).0.replace('\n', " ");
    match error.kind() {
        Kind::NotFound => ErrorData::new(ErrorCode::RESOURCE_NOT_FOUND, message, None),
        Kind::InvalidQuery => ErrorData::invalid_params(message, None),
        _ => ErrorData::internal_error(message, None),
    }
}

/// The page that a cursor means, of `all` things.
fn paged<T>(all: Vec<T>, request: Option<&PaginatedRequestParams>) -> Result<(Vec<T>, Option<String>), ErrorData> {
    const PAGE: usize = 100;
    let cursor = request.and_then(|request| request.cursor.as_deref()).map(|cursor| cursor.parse::<usize>());
    let from = cursor.transpose().map_err(|_| ErrorData::invalid_params("no list has this cursor", None))?.unwrap_or(0);
    let next = (all.len() > from.saturating_add(PAGE)).then(|| (from + PAGE).to_string());
    Ok((all.into_iter().skip(from).take(PAGE).collect(), next))
}

impl ServerHandler for Agents {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().enable_completions();
        let capabilities = capabilities.enable_tasks().build();
        let about = Implementation::new("lacus", env!("CARGO_PKG_VERSION")).with_title("Lacus");
        ServerConfig::new(capabilities).with_server_info(about).with_instructions(definitions::INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> std::borrow::Cow<'static, [ProtocolVersion]> {
        std::borrow::Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(definitions::tools()).with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        definitions::tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let asked = self.asked(&context)?;
        let (asker, told, agents) = (asked.asker.clone(), asked.teller.said(), self.clone());
        let work = async move { agents.answered(&asked, &request.name, request.arguments).await };
        self.told_or_task(&context, &asker, told, work).instrument(span_of(&context)).await
    }

    async fn get_task(&self, request: GetTaskParams, context: RequestContext<RoleServer>) -> Result<GetTaskResult, ErrorData> {
        let asked = self.asked(&context)?;
        self.0.tasks.get(&request.task_id, &asked.asker).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        let asked = self.asked(&context)?;
        self.0.tasks.update(&request.task_id, &asked.asker)
    }

    async fn cancel_task(&self, request: CancelTaskParams, context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        let asked = self.asked(&context)?;
        self.0.tasks.cancel(&request.task_id, &asked.asker)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let asked = self.asked(&context)?;
        let call = self.call(&asked);
        let all = self.within(&context, call.resources()).await.map_err(|error| refused(&error))?;
        let (page, next) = paged(all, request.as_ref())?;
        let mut listed = ListResourcesResult::with_all_items(page).with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private);
        listed.next_cursor = next;
        Ok(listed)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listed = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(listed.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let asked = self.asked(&context)?;
        let call = self.call(&asked);
        let read = self.within(&context, call.resource(&request.uri)).await.map_err(|error| {
            let uri = values::clean(&request.uri, 1_000).0;
            ErrorData { data: Some(serde_json::json!({ "uri": uri })), ..refused(&error) }
        })?;
        Ok(read.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private).into())
    }

    async fn list_prompts(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::list()).with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(&self, request: GetPromptRequestParams, _: RequestContext<RoleServer>) -> Result<GetPromptResponse, ErrorData> {
        let prompt = prompts::get(&request.name, request.arguments.as_ref());
        prompt.map(Into::into).map_err(|error| ErrorData::invalid_params(error, None))
    }

    async fn complete(&self, request: CompleteRequestParams, context: RequestContext<RoleServer>) -> Result<CompleteResult, ErrorData> {
        let asked = self.asked(&context)?;
        let call = self.call(&asked);
        let completed = self.within(&context, call.completions(&request)).await.map_err(|error| refused(&error))?;
        Ok(CompleteResult::new(completed))
    }
}
