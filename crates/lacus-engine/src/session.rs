//! What one query runs in: its own view of the stores, over the shared memory, spill and caches of the engine.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use lacus_core::{Error, Kind, Notices, Remotes, Result};
use lacus_storage::{ReadScope, ScopedStore, Stores};
use object_store::ObjectStore;

use crate::access::{Access, Findings};
use crate::activity::Activity;
use crate::functions::Base;
use crate::memory::QueryMemory;
use crate::provenance::Noted;
use crate::spill::SpillFolder;
use crate::units::UnitRules;
use crate::watched::{Ended, watched};
use crate::{Limits, current, rules, settings};

/// How many consumers an error of the memory pool names.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(2);
/// Footers of about 10,000 Parquet files of ordinary width; each is kept by path and version.
const FOOTER_CACHE: usize = 256 << 20;

/// The state that every query's session is made from; its functions are looked up elsewhere.
pub(crate) fn base_state(
    lake: &str,
    limits: &Limits,
    activity: &Arc<Activity>,
    (off, units): (&[String], UnitRules),
    logical_rules: Vec<rules::LogicalRule>,
    physical_rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Result<SessionState> {
    let spill = limits.spill_directory.as_deref().map(SpillFolder::below).transpose()?;
    let mode = match &spill {
        Some(spill) => DiskManagerMode::Directories(vec![spill.path().to_owned()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(limits.spill);
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(FOOTER_CACHE)
        // Stores know for how long a listing is true; DataFusion's own cache of them never expires.
        .with_object_list_cache_limit(0)
        .build_arc()?;
    // Every session and every task has the configuration, and with it the folder.
    let config = settings::session_config(lake, limits.memory, units).with_extension(Arc::clone(activity)).with_extension(Arc::new(spill));
    let mut builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    (*builder.scalar_functions(), *builder.higher_order_functions(), *builder.window_functions()) = (None, None, None);
    // `SELECT DISTINCT ON` becomes an aggregate that the optimizer looks up.
    *builder.aggregate_functions() = Some(vec![first_value_udaf()]);
    let builder = builder.with_query_planner(Arc::new(Planner));
    let builder = builder.with_physical_optimizer_rules(rules::physical(off));
    let builder = rules::analyzers().into_iter().fold(builder, SessionStateBuilder::with_analyzer_rule);
    let builder = rules::logical(off, logical_rules).into_iter().fold(builder, SessionStateBuilder::with_optimizer_rule);
    Ok(physical_rules.into_iter().fold(builder, SessionStateBuilder::with_physical_optimizer_rule).build())
}

/// A logical plan, optimized and planned; `shares` lets its equal parts run once.
pub(crate) async fn physical_plan(state: &SessionState, logical: &LogicalPlan, shares: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let optimized = rules::with_bounds(state.optimize(logical)?)?;
    let optimized = if shares { rules::share(optimized)? } else { optimized };
    let plan = state.query_planner().create_physical_plan(&optimized, state).await?;
    Ok(watched(plan, state)?)
}

/// DataFusion's planner, which knows our own nodes, too.
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, logical: &LogicalPlan, session: &dyn Session) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(rules::extension_planners()).create_physical_plan(logical, session).await
    }
}

/// The state behind the session of a query.
pub(crate) fn state_of(session: &dyn Session) -> Result<&SessionState> {
    let state = session.as_any().downcast_ref::<SessionState>();
    state.ok_or_else(|| Error::new(Kind::Internal, "the session of a query is not DataFusion's"))
}

/// What belongs to one query: what it reads, and what it wants its reader to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) reads: Arc<ReadScope>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) findings: Arc<Findings>,
    pub(crate) remotes: Arc<Remotes>,
    pub(crate) noted: Arc<Noted>,
    pub(crate) ended: Arc<Ended>,
}

impl Scope {
    /// `schema` with what the reader should know, as far as it is known, in its metadata.
    pub(crate) fn noticed(&self, schema: Schema) -> Schema {
        self.reads.warnings().into_iter().for_each(|warning| self.notices.add(warning));
        self.notices.attached_to(schema)
    }
}

/// The session of one query, which reads within `scope` and holds its data in `memory`, with the settings of its `client`.
pub(crate) fn query_state(
    base: &Base,
    stores: &Arc<Stores>,
    scope: &Scope,
    memory: &QueryMemory,
    client: &crate::Session,
    access: &Arc<Access>,
) -> Result<SessionState> {
    let (functions, base) = (base.functions(), base.state());
    let store = Arc::new(ScopedStore::new(Arc::clone(stores), Arc::clone(&scope.reads)));
    let runtime = RuntimeEnv {
        object_store_registry: Arc::new(QueryStores { store }),
        memory_pool: Arc::new(TrackConsumersPool::new(memory.clone(), NAMED_CONSUMERS)),
        ..base.runtime_env().as_ref().clone()
    };
    let mut config = base.config().clone().with_extension(Arc::clone(&scope.reads)).with_extension(Arc::clone(&scope.notices));
    config.set_extension(functions);
    config.set_extension(Arc::clone(stores));
    config.set_extension(Arc::clone(access));
    config.set_extension(Arc::clone(&scope.remotes));
    config.set_extension(Arc::clone(&scope.noted));
    config.set_extension(Arc::clone(&scope.ended));
    client.apply(config.options_mut())?;
    let builder = SessionStateBuilder::new_from_existing(base.clone()).with_config(config).with_runtime_env(Arc::new(runtime));
    // The plan is looked at before anything else does something with it.
    let first = access.is_bound().then(|| access.rule()).into_iter().chain([rules::before_coercion()]);
    let mut state = builder.with_analyzer_rules(first.chain(base.analyzer().rules.iter().cloned()).collect()).build();
    // What `now()` gives, all over the query.
    state.mark_start_execution();
    let lake = state.config_options().catalog.default_catalog.clone();
    current::register(&mut state, &lake, client, &access.groups())?;
    Ok(state)
}

/// All URLs lead to the lake's stores, as one query sees them.
#[derive(Debug)]
struct QueryStores {
    store: Arc<dyn ObjectStore>,
}

impl ObjectStoreRegistry for QueryStores {
    fn register_store(&self, _: &url::Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        if url.scheme() == "lake" {
            return Ok(Arc::clone(&self.store));
        }
        Err(DataFusionError::from(Error::new(Kind::Internal, format!("`{url}` is outside of the lake"))))
    }
}
