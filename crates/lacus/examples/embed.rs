//! An engine with a table, a function and a store of the program's own: `cargo run --example embed`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::sync::Arc;

use lacus::arrow::array::{AsArray, Float64Array, RecordBatch};
use lacus::arrow::datatypes::{DataType, Float64Type};
use lacus::datafusion::datasource::MemTable;
use lacus::datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use lacus::object_store::{ObjectStoreExt, PutPayload, memory::InMemory};
use lacus::{Config, Place, Principal, StoreName, StoreSpec, TryStreamExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let builder = Config::discover(&std::env::current_dir()?)?.builder()?;

    let memory = InMemory::new();
    memory.put(&"runs/today.csv".into(), PutPayload::from_static(b"shot,te\n1,900\n2,1100\n")).await?;
    builder.stores().add(StoreSpec::new(StoreName::new("memory")?, Place::Custom(Arc::new(memory))));

    let limits = RecordBatch::try_from_iter([("most", Arc::new(Float64Array::from(vec![0.09])) as _)])?;
    let table = MemTable::try_new(limits.schema(), vec![vec![limits]])?;
    let kelvin = create_udf(
        "ev_to_mk",
        vec![DataType::Float64],
        DataType::Float64,
        Volatility::Immutable,
        Arc::new(|arguments| {
            let ev = arguments[0].to_array(1)?;
            let megakelvin: Float64Array = ev.as_primitive::<Float64Type>().unary(|ev| ev * 0.011_604_518);
            Ok(ColumnarValue::Array(Arc::new(megakelvin)))
        }),
    );

    let engine = builder.table("limits", Arc::new(table)).scalar_function(kelvin).build()?;
    let sql = "SELECT shot, ev_to_mk(te) AS mk FROM 'memory:runs/*.csv' JOIN limits ON te > most ORDER BY shot";
    let batches: Vec<RecordBatch> = engine.query(sql, &[], &Principal::owner()).await?.stream()?.try_collect().await?;
    println!("{}", lacus::arrow::util::pretty::pretty_format_batches(&batches)?);
    Ok(())
}
