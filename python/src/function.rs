//! Functions of Python that give a value for each row: what they share with aggregates, and how a batch goes to them and comes back.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use lacus::arrow::array::{Array as _, ArrayRef, new_empty_array, new_null_array};
use lacus::arrow::compute::{CastOptions, cast_with_options};
use lacus::arrow::datatypes::{DataType, Field, FieldRef};
use lacus::datafusion::error::Result as DataFusionResult;
use lacus::datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use lacus::{Engine, Error, Kind, Result, nearest};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::array::Array;
use crate::calls::call;
use crate::capsule;
use crate::error::OrRaise;

const VOLATILITIES: [(&str, Volatility); 3] =
    [("immutable", Volatility::Immutable), ("stable", Volatility::Stable), ("volatile", Volatility::Volatile)];

/// What SQL knows of a function.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    pub(crate) returns: Field,
}

impl Declaration {
    pub(crate) fn new(
        engine: &Engine,
        name: String,
        arguments: &[Bound<'_, PyAny>],
        returns: &Bound<'_, PyAny>,
        volatility: &Bound<'_, PyString>,
    ) -> PyResult<Self> {
        let py = returns.py();
        if arguments.is_empty() {
            let error = Error::new(Kind::InvalidConfiguration, "a function needs an argument, or it would not know of how many rows");
            return Err(error.with("function", name).hint("give the type of each in arguments=[...]")).or_raise(py);
        }
        let types = arguments.iter().map(|kind| Ok(field(engine, kind)?.data_type().clone())).collect::<PyResult<Vec<_>>>()?;
        let signature = Signature::exact(types, known_volatility(volatility.to_str()?).or_raise(py)?);
        Ok(Self { signature, returns: field(engine, returns)?, name })
    }

    /// The field of what a call gives: metadata, such as units, are those that were declared.
    pub(crate) fn return_field(&self) -> FieldRef {
        Arc::new(self.returns.clone().with_name(&self.name).with_nullable(true))
    }

    /// What Python raised, as an error of the query.
    pub(crate) fn failed(&self, py: Python<'_>, raised: PyErr) -> Error {
        let kind = raised.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
        let said = raised.value(py).to_string();
        let text = if said.is_empty() { kind } else { format!("{kind}: {said}") };
        Error::new(Kind::InvalidQuery, format!("the function `{}` raised {text}", self.name)).because(raised)
    }

    /// Values that Python gave, in the type that was declared.
    pub(crate) fn conformed(&self, values: ArrayRef, declared: &DataType) -> Result<ArrayRef> {
        let given = values.data_type();
        if given == declared {
            return Ok(values);
        }
        if given == &DataType::Null {
            return Ok(new_null_array(declared, values.len()));
        }
        if !plain(given).equals_datatype(plain(declared)) {
            let error = Error::new(Kind::InvalidQuery, format!("the function `{}` gave {given}, and {declared} is declared", self.name));
            return Err(error.hint("cast the values, or declare what it gives"));
        }
        Ok(cast_with_options(&values, declared, &CastOptions { safe: false, ..CastOptions::default() })?)
    }
}

/// A type whatever way its values are encoded.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::LargeUtf8 | DataType::Utf8View => &DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => &DataType::Binary,
        other => other,
    }
}

fn known_volatility(word: &str) -> Result<Volatility> {
    let known = VOLATILITIES.map(|(name, _)| name);
    VOLATILITIES.into_iter().find(|(name, _)| *name == word).map(|(_, volatility)| volatility).ok_or_else(|| {
        let error = Error::new(Kind::InvalidConfiguration, format!("`{word}` is no volatility"));
        match nearest(word, known) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("it is one of {}", known.join(", "))),
        }
    })
}

/// A type that is given as a name of SQL, or as anything that knows its Arrow type.
pub(crate) fn field(engine: &Engine, given: &Bound<'_, PyAny>) -> PyResult<Field> {
    let py = given.py();
    if let Ok(name) = given.cast::<PyString>() {
        let data_type = engine.data_type(name.to_str()?).or_raise(py)?;
        return Ok(Field::new("", data_type, true));
    }
    capsule::read_field(given)?.ok_or_else(|| {
        let shown = given.repr().map_or_else(|_| "this".to_owned(), |shown| shown.to_string());
        PyTypeError::new_err(format!(
            "{shown} is no type: give a type of SQL, such as \"DOUBLE\", or an object with `__arrow_c_schema__`, such as pyarrow.float64()"
        ))
    })
}

/// The columns of a batch as a function takes them: pyarrow's arrays where it is installed.
pub(crate) fn given<'py>(py: Python<'py>, columns: &[ArrayRef], pyarrow: Option<&Py<PyAny>>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    columns
        .iter()
        .map(|column| {
            let array = Bound::new(py, Array { inner: Arc::clone(column) })?.into_any();
            match pyarrow {
                Some(array_of) => array_of.bind(py).call1((array,)),
                None => Ok(array),
            }
        })
        .collect()
}

/// A function of Python that gives a value for each row.
#[derive(Debug)]
pub(crate) struct ScalarFunction {
    declared: Declaration,
    callable: Py<PyAny>,
    /// `pyarrow.array`.
    pyarrow: Option<Py<PyAny>>,
}

impl ScalarFunction {
    pub(crate) fn new(declared: Declaration, callable: Py<PyAny>, pyarrow: Option<Py<PyAny>>) -> Self {
        Self { declared, callable, pyarrow }
    }

    fn values(&self, py: Python<'_>, columns: &[ArrayRef]) -> PyResult<ArrayRef> {
        let arguments = pyo3::types::PyTuple::new(py, given(py, columns, self.pyarrow.as_ref())?)?;
        let values = self.callable.bind(py).call1(arguments)?;
        let values = py.import("lacus._functions")?.getattr("arrow_array")?.call1((values,))?;
        capsule::read_values(&values)
    }
}

/// A function equals itself alone: what a callable does can't be compared.
impl PartialEq for ScalarFunction {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for ScalarFunction {}

impl Hash for ScalarFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}

impl ScalarUDFImpl for ScalarFunction {
    fn name(&self) -> &str {
        &self.declared.name
    }

    fn signature(&self) -> &Signature {
        &self.declared.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.declared.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(self.declared.return_field())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let (rows, returns) = (arguments.number_rows, self.declared.returns.data_type());
        if rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(returns)));
        }
        let columns = arguments.args.iter().map(|value| value.to_array(rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let values = call(|py| self.values(py, &columns).map_err(|raised| self.declared.failed(py, raised)))?;
        if values.len() != rows {
            let message = format!("the function `{}` gave {} values for {rows} rows", self.declared.name, values.len());
            let error = Error::new(Kind::InvalidQuery, message);
            return Err(error.hint("it gives one value for each row, NULL where there is none").into());
        }
        Ok(ColumnarValue::Array(self.declared.conformed(values, returns)?))
    }
}
