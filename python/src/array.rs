use lacus::arrow::array::ArrayRef;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::capsule;

/// A column of one batch, as a function gets it where pyarrow is not installed.
#[pyclass(frozen, module = "lacus")]
pub(crate) struct Array {
    pub(crate) inner: ArrayRef,
}

#[pymethods]
impl Array {
    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __repr__(&self) -> String {
        format!("<lacus.Array of {} values, {}>", self.inner.len(), self.inner.data_type())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::data_type(py, self.inner.data_type())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // The interface lets a producer keep its own types, so a requested schema is a wish that is not met.
        drop(requested_schema);
        capsule::array(py, &self.inner)
    }
}
