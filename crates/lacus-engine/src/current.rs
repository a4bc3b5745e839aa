//! What SQL asks about its own session: `current_schema()`, `current_catalog`, `current_user`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::client::Session;

/// A function of no arguments, which gives one text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Current {
    name: &'static str,
    aliases: Vec<String>,
    value: String,
    signature: Signature,
}

impl ScalarUDFImpl for Current {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(self.value.clone()))))
    }
}

/// Gives `state` the functions that tell of `session`.
pub(crate) fn register(state: &mut SessionState, lake: &str, session: &Session) -> Result<()> {
    let values = [
        ("current_schema", Vec::new(), session.schema()),
        ("current_catalog", vec!["current_database".to_owned()], lake.to_owned()),
        ("current_user", vec!["session_user".to_owned()], session.principal().name().to_owned()),
    ];
    for (name, aliases, value) in values {
        let signature = Signature::exact(Vec::new(), Volatility::Stable);
        state.register_udf(Arc::new(ScalarUDF::from(Current { name, aliases, value, signature })))?;
    }
    Ok(())
}
