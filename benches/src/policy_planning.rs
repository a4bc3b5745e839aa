//! Plans the 22 queries of TPC-H as a user, so many rounds, `with` a policy by which the user may read every table or `without` one.
//! `policy_instructions.py` counts the instructions.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use lacus::arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringViewArray};
use lacus::datafusion::datasource::MemTable;
use lacus::{Engine, PolicyFile, Principal, Stores, Unnamed};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "lacus-policy-planning ROUNDS with|without";
const QUERIES: usize = 22;
const ROWS: i32 = 8;

/// The columns of the tables, by their types.
const TABLES: [(&str, &str); 8] = [
    ("region", "key r_regionkey, text r_name r_comment"),
    ("nation", "key n_nationkey n_regionkey, text n_name n_comment"),
    ("supplier", "key s_suppkey s_nationkey, text s_name s_address s_phone s_comment, money s_acctbal"),
    ("customer", "key c_custkey c_nationkey, text c_name c_address c_phone c_mktsegment c_comment, money c_acctbal"),
    ("part", "key p_partkey, text p_name p_mfgr p_brand p_type p_container p_comment, number p_size, money p_retailprice"),
    ("partsupp", "key ps_partkey ps_suppkey, number ps_availqty, money ps_supplycost, text ps_comment"),
    (
        "orders",
        "key o_orderkey o_custkey, text o_orderstatus o_orderpriority o_clerk o_comment, money o_totalprice, date o_orderdate, \
         number o_shippriority",
    ),
    (
        "lineitem",
        "key l_orderkey l_partkey l_suppkey, number l_linenumber, money l_quantity l_extendedprice l_discount l_tax, \
         text l_returnflag l_linestatus l_shipinstruct l_shipmode l_comment, date l_shipdate l_commitdate l_receiptdate",
    ),
];

/// Values of one of the types above.
fn values(kind: &str) -> Outcome<ArrayRef> {
    Ok(match kind {
        "key" => Arc::new(Int64Array::from_iter_values((0..ROWS).map(i64::from))),
        "number" => Arc::new(Int32Array::from_iter_values(0..ROWS)),
        "money" => Arc::new(Decimal128Array::from_iter_values((0..ROWS).map(i128::from)).with_precision_and_scale(15, 2)?),
        "date" => Arc::new(Date32Array::from_iter_values(0..ROWS)),
        _ => Arc::new(StringViewArray::from_iter_values((0..ROWS).map(|row| row.to_string()))),
    })
}

/// A table of a few rows in memory, so that nothing but planning is measured.
fn table(columns: &str) -> Outcome<MemTable> {
    let mut named = Vec::new();
    for group in columns.split(", ") {
        let (kind, names) = group.split_once(' ').ok_or("a type without columns")?;
        for name in names.split_whitespace() {
            named.push((name, values(kind)?));
        }
    }
    let batch = RecordBatch::try_from_iter(named)?;
    Ok(MemTable::try_new(batch.schema(), vec![vec![batch]])?)
}

fn engine(benches: &Path, has_policy: bool) -> Outcome<Engine> {
    let mut builder = Engine::builder(Arc::new(Stores::new(std::env::temp_dir(), Unnamed::anonymous(), Vec::new())));
    for (name, columns) in TABLES {
        builder = builder.table(name, Arc::new(table(columns)?));
    }
    if has_policy {
        builder = builder.policy(PolicyFile::open(benches.join("src/policy_planning.toml"))?);
    }
    Ok(builder.build()?)
}

/// The text of a query in its file of tests.
fn query(benches: &Path, number: usize) -> Outcome<String> {
    let file = std::fs::read_to_string(benches.join(format!("../sql/tpch/q{number:02}.slt")))?;
    let text = file.split_once("\nquery ").and_then(|(_, rest)| rest.split_once('\n')).and_then(|(_, rest)| rest.split_once("\n----\n"));
    Ok(text.ok_or("no query stands in the file")?.0.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().and_then(|rounds| rounds.parse().ok()).ok_or(USAGE)?;
    let has_policy = match arguments.next().as_deref() {
        Some("with") => true,
        Some("without") => false,
        _ => return Err(USAGE.into()),
    };
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (engine, ada) = (engine(benches, has_policy)?, Principal::user("ada"));
    let queries = (1..=QUERIES).map(|number| query(benches, number)).collect::<Outcome<Vec<_>>>()?;
    if engine.check_access("SELECT * FROM region", &ada).await?.decided.is_empty() == has_policy {
        return Err("the policy does not decide".into());
    }
    for _ in 0..rounds {
        for sql in &queries {
            // Planned as far as it can be, and dropped before it runs.
            let _planned = engine.query(sql, &[], &ada).await?;
        }
    }
    Ok(())
}
