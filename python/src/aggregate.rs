//! Classes of Python that give a value for each group of rows.

use std::hash::{Hash, Hasher};
use std::mem::size_of_val;
use std::sync::Arc;

use lacus::arrow::array::{Array as _, ArrayRef, new_empty_array};
use lacus::arrow::datatypes::{DataType, Field, FieldRef};
use lacus::datafusion::error::Result as DataFusionResult;
use lacus::datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use lacus::datafusion::logical_expr::utils::format_state_name;
use lacus::datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature};
use lacus::{Error, Kind, Result, ScalarValue};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::array::Array;
use crate::calls::call;
use crate::function::{Declaration, given};
use crate::{capsule, value};

/// A class of Python whose objects each take the rows of a group.
#[derive(Debug)]
pub(crate) struct AggregateFunction {
    shared: Arc<Shared>,
}

/// What all groups share.
#[derive(Debug)]
struct Shared {
    declared: Declaration,
    class: Py<PyAny>,
    /// The types of what an object keeps between batches.
    state: Vec<DataType>,
    /// `pyarrow.array`.
    pyarrow: Option<Py<PyAny>>,
}

impl AggregateFunction {
    pub(crate) fn new(declared: Declaration, class: Py<PyAny>, state: Vec<DataType>, pyarrow: Option<Py<PyAny>>) -> Self {
        Self { shared: Arc::new(Shared { declared, class, state, pyarrow }) }
    }
}

impl Shared {
    fn call<T>(&self, work: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T> {
        call(|py| work(py).map_err(|raised| self.declared.failed(py, raised)))
    }

    /// One value that Python gave, not yet in the type that was declared.
    fn read(&self, given: &Bound<'_, PyAny>, declared: &DataType) -> PyResult<ScalarValue> {
        let py = given.py();
        let array = if given.is_none() {
            return Ok(ScalarValue::Null);
        } else if given.hasattr("__arrow_c_array__")? {
            given.clone()
        } else if let Some(array_of) = &self.pyarrow {
            let kind = array_of.bind(py).call1((Array { inner: new_empty_array(declared) },))?.getattr("type")?;
            py.import("lacus._functions")?.getattr("one_value")?.call1((given, kind))?
        } else {
            return value::scalar(given, &format!("a value of the function `{}`", self.declared.name));
        };
        let array = capsule::read_array(&array)?;
        if array.len() != 1 {
            return Err(PyTypeError::new_err(format!("an array of {} values where one value is expected", array.len())));
        }
        ScalarValue::try_from_array(&array, 0).map_err(|error| PyTypeError::new_err(error.to_string()))
    }

    /// One value in the type that was declared.
    fn conformed(&self, value: ScalarValue, declared: &DataType) -> Result<ScalarValue> {
        if self.pyarrow.is_none() && !value.is_null() {
            // Of numbers Python has fewer types.
            return Ok(value.cast_to(declared)?);
        }
        Ok(ScalarValue::try_from_array(&self.declared.conformed(value.to_array()?, declared)?, 0)?)
    }
}

impl PartialEq for AggregateFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for AggregateFunction {}

impl Hash for AggregateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.shared).hash(state);
    }
}

impl AggregateUDFImpl for AggregateFunction {
    fn name(&self) -> &str {
        &self.shared.declared.name
    }

    fn signature(&self) -> &Signature {
        &self.shared.declared.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.shared.declared.returns.data_type().clone())
    }

    fn return_field(&self, _: &[FieldRef]) -> DataFusionResult<FieldRef> {
        Ok(self.shared.declared.return_field())
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> DataFusionResult<Vec<FieldRef>> {
        let name = |number: usize| format_state_name(arguments.name, &format!("state{number}"));
        let field = |(number, data_type): (usize, &DataType)| Arc::new(Field::new(name(number), data_type.clone(), true));
        Ok(self.shared.state.iter().enumerate().map(field).collect())
    }

    fn supports_null_handling_clause(&self) -> bool {
        false
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        let refused = [(arguments.is_distinct, "DISTINCT"), (!arguments.order_bys.is_empty(), "ORDER BY")];
        if let Some((_, clause)) = refused.into_iter().find(|(is_given, _)| *is_given) {
            let error = Error::new(Kind::Unsupported, format!("the function `{}` takes no {clause}", self.shared.declared.name));
            return Err(error.hint("select from a query that has done it").into());
        }
        let object = self.shared.call(|py| Ok(self.shared.class.bind(py).call0()?.unbind()))?;
        Ok(Box::new(Group { shared: Arc::clone(&self.shared), object }))
    }
}

/// The rows of one group, in an object of Python.
#[derive(Debug)]
struct Group {
    shared: Arc<Shared>,
    object: Py<PyAny>,
}

impl Accumulator for Group {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> DataFusionResult<()> {
        let done = self.shared.call(|py| {
            let arguments = PyTuple::new(py, given(py, columns, self.shared.pyarrow.as_ref())?)?;
            self.object.bind(py).call_method1("update", arguments).map(drop)
        });
        Ok(done?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let done = self.shared.call(|py| {
            let states = PyList::new(py, given(py, states, self.shared.pyarrow.as_ref())?)?;
            self.object.bind(py).call_method1("merge", (states,)).map(drop)
        });
        Ok(done?)
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let declared = &self.shared.state;
        let values = self.shared.call(|py| {
            let given: Vec<Bound<'_, PyAny>> = self.object.bind(py).call_method0("state")?.try_iter()?.collect::<PyResult<_>>()?;
            if given.len() != declared.len() {
                return Err(PyTypeError::new_err(format!("state() gave {} values, and {} are declared", given.len(), declared.len())));
            }
            given.iter().zip(declared).map(|(value, declared)| self.shared.read(value, declared)).collect::<PyResult<Vec<_>>>()
        })?;
        values.into_iter().zip(declared).map(|(value, declared)| Ok(self.shared.conformed(value, declared)?)).collect()
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let declared = self.shared.declared.returns.data_type();
        let value = self.shared.call(|py| self.shared.read(&self.object.bind(py).call_method0("evaluate")?, declared))?;
        Ok(self.shared.conformed(value, declared)?)
    }

    /// What the object holds is known to Python alone.
    fn size(&self) -> usize {
        size_of_val(self)
    }
}
