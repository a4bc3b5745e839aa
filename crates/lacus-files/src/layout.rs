//! Files whose readers go by position.
//!
//! A CSV reader takes the first column of a file for the first column of the table, and an Arrow reader gives a file's own types. So
//! files are grouped by their layout, each group is read with its own schema, and its columns are brought by name into the order and
//! the types of the table; a column that a group lacks is NULL.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::{Result, ScalarValue};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::format::Format;

/// The layouts of a dataset's files, and which layout each file has.
#[derive(Debug, Clone)]
pub(crate) struct Layouts {
    pub(crate) schemas: Vec<SchemaRef>,
    pub(crate) of_file: Vec<usize>,
}

impl Layouts {
    /// One layout for `files` files: the table's own.
    pub(crate) fn one(stored: &SchemaRef, files: usize) -> Self {
        Self { schemas: vec![Arc::clone(stored)], of_file: vec![0; files] }
    }

    /// The layouts of files with `schemas`, in a table whose stored columns are `stored`.
    pub(crate) fn of(format: Format, schemas: &[SchemaRef], stored: &SchemaRef) -> Self {
        if matches!(format, Format::Parquet | Format::Json) {
            return Self::one(stored, schemas.len());
        }
        let mut layouts: Vec<SchemaRef> = Vec::new();
        let mut of_file = Vec::with_capacity(schemas.len());
        for schema in schemas {
            let layout = layout(format, schema, stored);
            let known = layouts.iter().position(|known| *known == layout);
            of_file.push(known.unwrap_or(layouts.len()));
            if known.is_none() {
                layouts.push(layout);
            }
        }
        Self { schemas: layouts, of_file }
    }
}

/// Text is parsed as the table's type at once; an Arrow file keeps its own types. The rest of a field is the table's, so that what is
/// read has the units and descriptions that were planned.
fn layout(format: Format, schema: &SchemaRef, stored: &SchemaRef) -> SchemaRef {
    let field = |field: &FieldRef| match stored.field_with_name(field.name()) {
        Err(_) => Arc::clone(field),
        Ok(known) if matches!(format, Format::Arrow | Format::Avro | Format::Orc) => {
            Arc::new(known.clone().with_data_type(field.data_type().clone()))
        }
        Ok(known) => Arc::new(known.clone()),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Which columns of `layout` (its partition columns behind it) a scan of the `wanted` columns reads.
pub(crate) fn columns_to_read(layout: &Schema, partitions: &[FieldRef], wanted: &Schema) -> Vec<usize> {
    let all = layout.fields().iter().chain(partitions);
    all.enumerate().filter(|(_, field)| wanted.field_with_name(field.name()).is_ok()).map(|(position, _)| position).collect()
}

/// Brings the columns of `scan` by name into the order and types of `wanted`.
pub(crate) fn aligned(scan: Arc<dyn ExecutionPlan>, wanted: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let read = scan.schema();
    if read.fields() == wanted.fields() {
        return Ok(scan);
    }
    let column = |field: &Arc<Field>| -> Result<ProjectionExpr> {
        let expr: Arc<dyn PhysicalExpr> = match read.column_with_name(field.name()) {
            None => {
                let metadata = Some(FieldMetadata::from(field.as_ref())).filter(|metadata| !metadata.is_empty());
                Arc::new(Literal::new_with_metadata(ScalarValue::try_from(field.data_type())?, metadata))
            }
            Some((position, stored)) if stored.data_type() == field.data_type() => Arc::new(Column::new(field.name(), position)),
            Some((position, _)) => Arc::new(CastExpr::new(Arc::new(Column::new(field.name(), position)), field.data_type().clone(), None)),
        };
        Ok(ProjectionExpr { expr, alias: field.name().clone() })
    };
    let columns = wanted.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
}
