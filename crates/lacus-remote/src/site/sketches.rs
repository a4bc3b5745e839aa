//! Approximate functions of several inputs, put together from sketches of each: how many distinct values, and percentiles.
//!
//! `NAME_sketch` gives what `NAME` knows of a group, and is a function of SQL, as sites are asked for it. A sketch says of which version it is: hashes and
//! digests mean something to those alone that made them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, DocumentationBuilder, Signature, Volatility,
};
use datafusion_functions_aggregate::{approx_distinct, approx_median, approx_percentile_cont};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;

use super::server;

/// What sketches of this version are called. Those of two versions of DataFusion may hash differently.
const VERSION: &str = concat!("lacus ", env!("CARGO_PKG_VERSION"), ", datafusion 55");
/// The first part of a sketch.
const VERSION_FIELD: &str = "version";
/// What the name of a function that sketches ends with.
const SKETCH: &str = "_sketch";
const SECTION: DocSection = DocSection { include: true, label: "Sketches", description: None };

/// The functions that are sketched.
fn sketched() -> [Arc<AggregateUDF>; 3] {
    [approx_distinct::approx_distinct_udaf(), approx_median::approx_median_udaf(), approx_percentile_cont::approx_percentile_cont_udaf()]
}

/// Functions of SQL that give sketches.
pub fn sketch_functions() -> Vec<AggregateUDF> {
    sketched().into_iter().map(|of| AggregateUDF::new_from_impl(Sketch::new(of))).collect()
}

/// The function that sketches what another computes, if there is one.
pub(super) fn sketch_of(name: &str) -> Option<Arc<AggregateUDF>> {
    let of = sketched().into_iter().find(|of| of.name() == name)?;
    Some(Arc::new(AggregateUDF::new_from_impl(Sketch::new(of))))
}

/// Whether a function gives sketches.
pub(super) fn is_sketch(name: &str) -> bool {
    name.strip_suffix(SKETCH).is_some_and(|of| sketched().iter().any(|known| known.name() == of))
}

/// A function that puts sketches together: `types` are those of the arguments of `of`, `values` what follows the first of them.
pub(super) fn merged_sketches(of: &str, types: Vec<DataType>, values: Vec<ScalarValue>) -> Option<Arc<AggregateUDF>> {
    let of = sketched().into_iter().find(|known| known.name() == of)?;
    let arguments = Arguments { types, values };
    Some(Arc::new(AggregateUDF::new_from_impl(MergedSketches { of, arguments, signature: Signature::any(1, Volatility::Immutable) })))
}

/// One type for those that hold the same values in another layout, which may be hashed differently.
fn of_layout(data_type: &DataType) -> DataType {
    match server::of_layout(data_type) {
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(precision, scale),
        other => other,
    }
}

/// What is sketched, of arguments of some types.
fn arguments(types: &[DataType]) -> Vec<FieldRef> {
    types.iter().map(|of| Arc::new(Field::new("argument", of_layout(of), true))).collect()
}

/// What a sketch of arguments of some types is called.
fn version(types: &[DataType]) -> String {
    let types: Vec<String> = types.iter().map(|of| of_layout(of).to_string()).collect();
    format!("{VERSION}, {}", types.join(", "))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sketch {
    of: Arc<AggregateUDF>,
    name: String,
    signature: Signature,
    documentation: Documentation,
}

impl Sketch {
    fn new(of: Arc<AggregateUDF>) -> Self {
        let (name, signature) = (format!("{}{SKETCH}", of.name()), of.signature().clone());
        let documentation = DocumentationBuilder::new_with_details(
            SECTION,
            format!("What `{}` knows of a group, for others of the same version to put together: sites are asked for it.", of.name()),
            format!("{name}(expression, ...)"),
        );
        let documentation = documentation
            .with_argument("expression", format!("As those of `{}`.", of.name()))
            .with_sql_example(format!(
                "```sql\nSELECT {name}(power{}) FROM shots\n```",
                if name.contains("percentile") { ", 0.9" } else { "" }
            ))
            .build();
        Self { of, name, signature, documentation }
    }

    /// What it is made of, for arguments of these types.
    fn parts(&self, types: &[DataType]) -> Result<Fields> {
        let fields = arguments(types);
        let return_field = self.of.return_field(&fields)?;
        let args = StateFieldsArgs { name: "sketch", input_fields: &fields, return_field, ordering_fields: &[], is_distinct: false };
        let state = self.of.state_fields(args)?;
        let version = Arc::new(Field::new(VERSION_FIELD, DataType::Utf8, false));
        // A column of the sketch is called by its place: names of parts would have that of the column in them.
        let part =
            |(place, field): (usize, FieldRef)| Arc::new(field.as_ref().clone().with_name(format!("part{place}")).with_nullable(true));
        Ok(std::iter::once(version).chain(state.into_iter().enumerate().map(part)).collect())
    }
}

impl AggregateUDFImpl for Sketch {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.parts(types)?))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let fields = arguments(&types);
        let return_field = self.of.return_field(&fields)?;
        let parts = self.parts(&types)?;
        let inner = self.of.accumulator(AccumulatorArgs { return_field, expr_fields: &fields, ..args })?;
        let layouts = fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Box::new(Sketching { inner, parts, layouts, version: version(&types) }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let types: Vec<DataType> = args.input_fields.iter().map(|field| field.data_type().clone()).collect();
        let fields = arguments(&types);
        let return_field = self.of.return_field(&fields)?;
        self.of.state_fields(StateFieldsArgs { input_fields: &fields, return_field, ..args })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Sketching {
    inner: Box<dyn Accumulator>,
    parts: Fields,
    layouts: Vec<DataType>,
    version: String,
}

impl Accumulator for Sketching {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let cast = |(values, layout): (&ArrayRef, &DataType)| arrow::compute::cast(values, layout);
        let values = values.iter().zip(&self.layouts).map(cast).collect::<std::result::Result<Vec<_>, _>>()?;
        self.inner.update_batch(&values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let version: ArrayRef = ScalarValue::from(self.version.as_str()).to_array()?;
        let parts = self.inner.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        let arrays = std::iter::once(version).chain(parts).collect();
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(self.parts.clone(), arrays, None)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

/// The arguments of the function that was sketched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Arguments {
    types: Vec<DataType>,
    values: Vec<ScalarValue>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MergedSketches {
    of: Arc<AggregateUDF>,
    arguments: Arguments,
    signature: Signature,
}

impl MergedSketches {
    fn fields(&self) -> Vec<FieldRef> {
        arguments(&self.arguments.types)
    }
}

impl AggregateUDFImpl for MergedSketches {
    fn name(&self) -> &'static str {
        "merged_sketches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        self.of.return_type(&self.arguments.types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (fields, schema) = (self.fields(), Schema::empty());
        let literal = |value: &ScalarValue| Arc::new(Literal::new(value.clone())) as Arc<dyn PhysicalExpr>;
        // The first argument was read by whoever sketched.
        let first = literal(&ScalarValue::Null);
        let exprs: Vec<_> = std::iter::once(first).chain(self.arguments.values.iter().map(literal)).collect();
        let return_field = self.of.return_field(&fields)?;
        let inner = AccumulatorArgs { return_field, schema: &schema, order_bys: &[], exprs: &exprs, expr_fields: &fields, ..args };
        Ok(Box::new(Merging { inner: self.of.accumulator(inner)?, version: version(&self.arguments.types) }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let fields = self.fields();
        let return_field = self.of.return_field(&fields)?;
        self.of.state_fields(StateFieldsArgs { input_fields: &fields, return_field, ordering_fields: &[], ..args })
    }
}

#[derive(Debug)]
struct Merging {
    inner: Box<dyn Accumulator>,
    version: String,
}

impl Accumulator for Merging {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let sketches = values[0].as_struct();
        let Some((versions, parts)) = sketches.columns().split_first() else { return exec_err!("a sketch has no parts") };
        let versions = arrow::compute::cast(versions, &DataType::Utf8)?;
        let versions = versions.as_string::<i32>();
        if let Some(other) = (0..versions.len()).map(|row| versions.value(row)).find(|version| *version != self.version) {
            return exec_err!("a site gives sketches of `{other}`, and this is `{}`: bring both to one version", self.version);
        }
        self.inner.merge_batch(parts)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_of_another_version_is_refused() -> Result<()> {
        let parts: Fields = vec![Field::new(VERSION_FIELD, DataType::Utf8, false), Field::new("part0", DataType::Binary, true)].into();
        let text: ArrayRef = ScalarValue::from("lacus 0.0").to_array()?;
        let empty: ArrayRef = ScalarValue::Binary(Some(Vec::new())).to_array()?;
        let sketch: ArrayRef = Arc::new(StructArray::try_new(parts, vec![text, empty], None)?);
        let merged = merged_sketches("approx_distinct", vec![DataType::Int64], Vec::new());
        let fields = [Arc::new(Field::new("sketch", sketch.data_type().clone(), true))];
        let (schema, exprs) = (Schema::empty(), [Arc::new(Literal::new(ScalarValue::Null)) as Arc<dyn PhysicalExpr>]);
        let args = AccumulatorArgs {
            return_field: Arc::new(Field::new("n", DataType::UInt64, true)),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "n",
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &fields,
        };
        let found = merged.map(|merged| merged.accumulator(args)?.update_batch(&[sketch]));
        assert!(found.is_some_and(|found| found.is_err_and(|error| error.to_string().contains("lacus 0.0"))));
        Ok(())
    }
}
