//! The Lacus engine from Python: this crate only converts.
//!
//! One file a class: `lake` is the lake, embedded or remote; `result` a result; `batch` one batch of it; `array` a column of one, for
//! functions. `capsule` hands Arrow data to and from Python, `value` converts parameters, `rows` makes values of Python of a batch, `error` is the one place where an error becomes
//! an exception, `runtime` waits for the engine so that Ctrl-C works.
//!
//! The other way around, `function` and `aggregate` make functions of SQL of what Python brings, and `calls` lets the engine call it.

mod aggregate;
mod array;
mod batch;
mod calls;
mod capsule;
mod error;
mod function;
mod lake;
mod login;
mod progress;
mod result;
mod rows;
mod runtime;
mod value;

use pyo3::prelude::*;

#[pymodule]
fn _lacus(module: &Bound<'_, PyModule>) -> PyResult<()> {
    lacus_allocator::keep_memory_at_hand();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(lake::open, module)?)?;
    module.add_function(wrap_pyfunction!(lake::connect, module)?)?;
    module.add_function(wrap_pyfunction!(login::login, module)?)?;
    module.add_function(wrap_pyfunction!(login::token, module)?)?;
    module.add_function(wrap_pyfunction!(lake::split, module)?)?;
    module.add_function(wrap_pyfunction!(lake::parameter_names, module)?)?;
    module.add_function(wrap_pyfunction!(error::error_codes, module)?)?;
    module.add_function(wrap_pyfunction!(calls::end_calls, module)?)?;
    module.add_class::<lake::Lake>()?;
    module.add_class::<result::Result>()?;
    module.add_class::<batch::Batch>()?;
    module.add_class::<array::Array>()
}
