//! Tables of which a policy shows a part.
//!
//! ```text
//! user's plan
//!   RestrictedExec          a leaf of that plan: nothing crosses it but comparisons that can't fail
//! policy's plan, of its own
//!   what the user may push: comparisons, columns, LIMIT
//!   SELECT masks WHERE filter
//!   the table
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ColumnStatistics, ResolvedTableReference, Result as DataFusionResult, ScalarValue, Statistics};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, SubqueryAlias, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::TryStreamExt;
use lacus_core::{Error, Kind, Result};
use lacus_policy::Rule;

use super::{Access, CHECK};
use crate::planner::Planner;
use crate::session::state_of;
use crate::settings::MAIN;
use crate::{statement, units};

/// Of so many rows one passes a condition, as DataFusion assumes.
const PASSES: usize = 5;

/// What a policy shows of a table.
pub(crate) struct Secured {
    schema: SchemaRef,
    /// The rows and columns that are seen.
    plan: LogicalPlan,
    /// By column: whether it is as the table has it, so that comparisons may be made below the barrier.
    is_plain: BTreeMap<String, bool>,
    table: Arc<dyn TableProvider>,
    filters: bool,
    access: Arc<Access>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secured").finish_non_exhaustive()
    }
}

impl Secured {
    /// What `rule` shows of a table. Columns that the table lacks are a mistake in a rule that names this one table.
    pub(super) async fn new(
        name: &ResolvedTableReference,
        table: Arc<dyn TableProvider>,
        rule: &Rule,
        is_named: bool,
        access: Arc<Access>,
        planner: &Planner<'_>,
    ) -> Result<Self> {
        let stored = table.schema();
        let unknown = rule.hide.iter().chain(rule.mask.keys()).find(|column| stored.column_with_name(column).is_none());
        if let Some(unknown) = unknown.filter(|_| is_named) {
            return Err(Error::new(Kind::InvalidConfiguration, format!("the table has no column `{unknown}`, which the rule is about")));
        }
        let fields: Vec<_> = stored.fields().iter().filter(|field| !rule.hide.contains(field.name())).collect();
        if fields.is_empty() {
            return Err(Error::new(Kind::InvalidConfiguration, "the rule hides all columns"));
        }
        let quoted = |name: &str| ast::Ident::with_quote('"', name);
        let column = |name: &str| ast::Expr::Identifier(quoted(name));
        let projection = fields.iter().map(|field| {
            let expr = rule.mask.get(field.name()).map_or_else(|| Ok(column(field.name())), |mask| statement::expression(mask))?;
            Ok(ast::SelectItem::ExprWithAlias { expr, alias: quoted(field.name()) })
        });
        let projection = projection.collect::<Result<Vec<_>>>()?;
        let mut shown = statement::parse("SELECT 1 FROM x WHERE true")?.statement;
        if let Statement::Statement(inner) = &mut shown
            && let ast::Statement::Query(query) = inner.as_mut()
            && let ast::SetExpr::Select(select) = query.body.as_mut()
        {
            select.projection = projection;
            select.selection = rule.filter.as_deref().map(statement::expression).transpose()?;
            let parts = [&name.catalog, &name.schema, &name.table].map(|part| ast::ObjectNamePart::Identifier(quoted(part)));
            if let Some(ast::TableFactor::Table { name, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
                *name = ast::ObjectName(parts.to_vec());
            }
        }
        let session = planner.session.of_view(MAIN.to_owned());
        let planned = planner.of_policy(&session, &access, (name.clone(), Arc::clone(&table))).plan(shown).await?;
        // What is masked keeps its type, and may be NULL.
        let columns = fields.iter().map(|field| {
            let expr = Expr::Column(Column::from_name(field.name()));
            let is_masked = rule.mask.contains_key(field.name());
            let expr = if is_masked { datafusion::logical_expr::cast(expr, field.data_type().clone()) } else { expr };
            expr.alias(field.name())
        });
        let plan = units::resolved(LogicalPlanBuilder::from(planned).project(columns.collect::<Vec<_>>())?.build()?)?;
        let field = |field: &Field| field.clone().with_nullable(field.is_nullable() || rule.mask.contains_key(field.name()));
        let schema = Schema::new_with_metadata(fields.iter().map(|stored| field(stored)).collect::<Vec<_>>(), stored.metadata().clone());
        // What is masked may be in another unit, or in none.
        let (told, _) = units::told(&plan, schema.clone());
        let of_masks = schema.fields().iter().zip(told.fields());
        let of_masks = of_masks.map(|(stored, told)| if rule.mask.contains_key(stored.name()) { told } else { stored });
        let schema = Schema::new_with_metadata(of_masks.cloned().collect::<Vec<_>>(), schema.metadata().clone());
        let is_plain = fields.iter().map(|field| (field.name().clone(), !rule.mask.contains_key(field.name()))).collect();
        Ok(Self { schema: Arc::new(schema), plan, is_plain, table, filters: rule.filter.is_some(), access })
    }

    /// Whether a condition may be looked at below the barrier: a comparison of a column with a value, which can't fail.
    fn is_harmless(&self, filter: &Expr) -> bool {
        let is_column = |expr: &Expr| matches!(expr, Expr::Column(column) if self.is_plain.get(&column.name) == Some(&true));
        let type_of = |expr: &Expr| match expr {
            Expr::Column(column) => self.schema.field_with_name(&column.name).ok().map(|field| field.data_type().clone()),
            Expr::Literal(value, _) => Some(value.data_type()),
            _ => None,
        };
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
                self.is_harmless(left) && self.is_harmless(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let compares = matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
                let sides = [(left, right), (right, left)];
                compares
                    && type_of(left) == type_of(right)
                    && sides.iter().any(|(column, value)| is_column(column) && matches!(value.as_ref(), Expr::Literal(..)))
            }
            Expr::Not(inner) => self.is_harmless(inner),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_column(inner),
            Expr::InList(list) => {
                is_column(&list.expr)
                    && list.list.iter().all(|value| matches!(value, Expr::Literal(..)) && type_of(value) == type_of(&list.expr))
            }
            Expr::Between(between) => {
                is_column(&between.expr)
                    && [&between.low, &between.high]
                        .iter()
                        .all(|value| matches!(value.as_ref(), Expr::Literal(..)) && type_of(value) == type_of(&between.expr))
            }
            _ => false,
        }
    }

    /// About how many rows there are: enough to order joins by, too little to tell of the rows that are not seen. What is known of values, and
    /// which files are read, say nothing here: conditions of the user could ask for them.
    fn rows(&self, is_asked: bool) -> Precision<usize> {
        match self.table.statistics().and_then(|statistics| statistics.num_rows.get_value().copied()) {
            Some(rows) => {
                let rows = rows.checked_next_power_of_two().unwrap_or(usize::MAX);
                Precision::Inexact(if is_asked { rows / PASSES } else { rows })
            }
            None => Precision::Absent,
        }
    }
}

#[async_trait]
impl TableProvider for Secured {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| match self.is_harmless(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let state = state_of(session)?;
        let mut plan = LogicalPlanBuilder::from(self.plan.clone());
        for filter in filters {
            // The names of the user's plan stand for the columns of this one.
            let filter = filter.clone().transform(|expr| {
                Ok(match expr {
                    Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
                    other => Transformed::no(other),
                })
            })?;
            plan = plan.filter(filter.data)?;
        }
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        // A plan has to have a column; that of a count is taken off again.
        let names: Vec<Expr> = wanted.iter().map(|place| Expr::Column(Column::from_name(self.schema.field(*place).name()))).collect();
        plan = match names.is_empty() {
            true => plan.project(vec![Expr::Literal(ScalarValue::Boolean(None), None).alias("nothing")])?,
            false => plan.project(names)?,
        };
        if limit.is_some() {
            plan = plan.limit(0, limit)?;
        }
        let rules = state.analyzer().rules.iter().filter(|rule| rule.name() != CHECK).cloned().chain([self.access.rule()]);
        let own = SessionStateBuilder::new_from_existing(state.clone()).with_analyzer_rules(rules.collect()).build();
        let plan = own.create_physical_plan(&plan.build()?).await?;
        let schema = Arc::new(self.schema.project(&wanted)?);
        Ok(Arc::new(RestrictedExec::new(plan, schema, self.rows(!filters.is_empty()), self.filters)))
    }
}

/// A plan of the policy in that of a user, who sees nothing of it but its rows.
pub(crate) struct RestrictedExec {
    plan: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    rows: Precision<usize>,
    filters: bool,
}

impl fmt::Debug for RestrictedExec {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RestrictedExec").finish_non_exhaustive()
    }
}

impl RestrictedExec {
    fn new(plan: Arc<dyn ExecutionPlan>, schema: SchemaRef, rows: Precision<usize>, filters: bool) -> Self {
        let inner = plan.properties();
        // Orders and equalities of columns that follow from the policy's plan would tell of it.
        let equivalences = datafusion::physical_expr::EquivalenceProperties::new(Arc::clone(&schema));
        let partitioning = datafusion::physical_plan::Partitioning::UnknownPartitioning(inner.partitioning.partition_count());
        let properties = PlanProperties::new(equivalences, partitioning, inner.emission_type, inner.boundedness);
        let properties = properties.with_scheduling_type(inner.scheduling_type);
        Self { plan, schema, properties: Arc::new(properties), rows, filters }
    }
}

impl DisplayAs for RestrictedExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(formatter, "RestrictedExec: columns=[{}], rows={}", columns.join(", "), if self.filters { "granted" } else { "all" })
    }
}

impl ExecutionPlan for RestrictedExec {
    fn name(&self) -> &'static str {
        "RestrictedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn reset_state(self: Arc<Self>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        Ok(Arc::new(Self::new(plan, Arc::clone(&self.schema), self.rows, self.filters)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let rows = self.plan.execute(partition, context).map_err(veiled)?;
        let schema = Arc::clone(&self.schema);
        let rows = rows.map_err(veiled).and_then(move |batch| {
            let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().iter().take(schema.fields().len()).cloned().collect();
            let shown = datafusion::arrow::array::RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options);
            futures::future::ready(shown.map_err(DataFusionError::from))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DataFusionResult<Arc<Statistics>> {
        let rows = if partition.is_none() { self.rows } else { Precision::Absent };
        let column_statistics = vec![ColumnStatistics::new_unknown(); self.schema.fields().len()];
        Ok(Arc::new(Statistics { num_rows: rows, total_byte_size: Precision::Absent, column_statistics }))
    }
}

/// An error from below the barrier: one about values may hold some that are not seen.
fn veiled(error: DataFusionError) -> DataFusionError {
    let error = Error::from(error);
    match error.kind() {
        Kind::InvalidQuery | Kind::CorruptData | Kind::Internal | Kind::InvalidConfiguration => {
            tracing::error!(%error, "what the policy shows of a table can't be computed");
            let veiled = Error::new(error.kind(), "what you may see of a table can't be computed");
            veiled.hint("whoever keeps this lake finds the reason in its log").into()
        }
        _ => error.into(),
    }
}

/// A table that may be known of, and not be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    refusal: Error,
    schema: SchemaRef,
}

impl Unreadable {
    pub(super) fn new(refusal: Error, schema: SchemaRef) -> Self {
        Self { refusal, schema }
    }

    pub(super) fn refused(&self) -> Error {
        self.refusal.clone()
    }
}

#[async_trait]
impl TableProvider for Unreadable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(self.refused().into())
    }
}

/// A plan with what the policy puts in the place of tables, to be shown to whoever keeps the policy.
pub(crate) fn rewritten(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let table = source_as_provider(&scan.source)?;
        let Some(secured) = table.downcast_ref::<Secured>() else { return Ok(Transformed::no(node)) };
        let shown = SubqueryAlias::try_new(Arc::new(secured.plan.clone()), scan.table_name.clone())?;
        Ok(Transformed::yes(LogicalPlan::SubqueryAlias(shown)))
    });
    Ok(rewritten?.data)
}

/// Whether columns of a table are kept from the principal, so that rows of it can't be given.
pub(crate) fn lacks_columns(table: &Arc<dyn TableProvider>) -> bool {
    table.downcast_ref::<Secured>().is_some_and(|secured| secured.schema.fields().len() < secured.table.schema().fields().len())
}

/// Whether rows of a table are kept from the principal, so that it can't be written anew by what is read of it.
pub(crate) fn is_partial(table: &Arc<dyn TableProvider>) -> bool {
    table.downcast_ref::<Secured>().is_some() || table.downcast_ref::<Unreadable>().is_some()
}
