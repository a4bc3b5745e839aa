use std::path::PathBuf;

use lacus::Secret;
use lacus_remote::{LoginSpec, Logins, login_name};
use pyo3::prelude::*;

use crate::error::OrRaise;
use crate::runtime::wait;

/// Gets a token for a server; see `lacus/_lacus.pyi`.
#[pyfunction]
#[pyo3(signature = (server, issuer, client, *, scopes = Vec::new(), resource = None, audience = None, ca = None, show = None))]
#[expect(clippy::too_many_arguments, reason = "each is an argument of Python by its name")]
pub(crate) fn login(
    py: Python<'_>,
    server: &str,
    issuer: String,
    client: String,
    scopes: Vec<String>,
    resource: Option<String>,
    audience: Option<String>,
    ca: Option<PathBuf>,
    show: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (server, logins) = (login_name(server).or_raise(py)?, Logins::of_user().or_raise(py)?);
    let waiting = wait(py, logins.begin(LoginSpec { issuer, client, scopes, resource, audience, ca }))?;
    let text = format!("open {} and agree there, if it shows the code {}", waiting.place(), waiting.code());
    let show = match show {
        Some(show) => show,
        None => py.import("builtins")?.getattr("print")?,
    };
    show.call1((text,))?;
    wait(py, logins.finish(waiting, &server))
}

/// The token for a server; see `lacus/_lacus.pyi`.
#[pyfunction]
pub(crate) fn token(py: Python<'_>, server: &str) -> PyResult<Option<String>> {
    let (server, logins) = (login_name(server).or_raise(py)?, Logins::of_user().or_raise(py)?);
    let token = wait(py, logins.token(&server))?;
    Ok(token.as_ref().map(Secret::reveal).map(str::to_owned))
}
