//! What SQL asks about its own session: `current_schema()`, `current_catalog`, `current_user`, `current_groups()`, `current_claim('name')`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use lacus_core::Principal;

use crate::client::Session;

/// A function of no arguments, which gives one value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Current {
    name: &'static str,
    aliases: Vec<String>,
    value: ScalarValue,
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
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_claim('name')`: what the token of the principal says of it, NULL where it says nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Claim {
    principal: Principal,
    signature: Signature,
}

impl ScalarUDFImpl for Claim {
    fn name(&self) -> &'static str {
        "current_claim"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.first() {
            Some(ColumnarValue::Scalar(name)) => {
                let claim = name.try_as_str().flatten().and_then(|name| self.principal.claim(name));
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(claim.map(str::to_owned))))
            }
            _ => exec_err!("current_claim() takes the name of a claim, written out"),
        }
    }
}

/// Gives `state` the functions that tell of `session`.
pub(crate) fn register(state: &mut SessionState, lake: &str, session: &Session, groups: &[String]) -> Result<()> {
    let values = [
        ("current_schema", Vec::new(), session.schema()),
        ("current_catalog", vec!["current_database".to_owned()], lake.to_owned()),
        ("current_user", vec!["session_user".to_owned()], session.principal().name().to_owned()),
    ]
    .map(|(name, aliases, value)| (name, aliases, ScalarValue::Utf8(Some(value))));
    let groups: Vec<ScalarValue> = groups.iter().map(|group| ScalarValue::Utf8(Some(group.clone()))).collect();
    let groups = ScalarValue::List(ScalarValue::new_list_nullable(&groups, &DataType::Utf8));
    for (name, aliases, value) in values.into_iter().chain([("current_groups", Vec::new(), groups)]) {
        let signature = Signature::exact(Vec::new(), Volatility::Stable);
        state.register_udf(Arc::new(ScalarUDF::from(Current { name, aliases, value, signature })))?;
    }
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Stable);
    state.register_udf(Arc::new(ScalarUDF::from(Claim { principal: session.principal().clone(), signature })))?;
    Ok(())
}
