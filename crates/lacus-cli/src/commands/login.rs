use lacus::{Error, Kind, Result};
use lacus_remote::{LoginSpec, Logins, login_name};

use crate::arguments::LoginArguments;
use crate::terminal;

/// Gets a token for a server, and keeps it.
pub(crate) async fn log_in(arguments: LoginArguments) -> Result<()> {
    let LoginArguments { server, issuer, client, scopes, resource, audience, ca } = arguments;
    let (server, logins) = (login_name(&server)?, Logins::of_user()?);
    let ca = ca.map(|file| std::path::absolute(&file).unwrap_or(file));
    let waiting = logins.begin(LoginSpec { issuer, client, scopes, resource, audience, ca }).await?;
    terminal::say(&format!("lacus: open {} and agree there, if it shows the code {}", waiting.place(), waiting.code()));
    logins.finish(waiting, &server).await?;
    terminal::say(&format!("lacus: logged in; `lacus --connect {server}` brings the token from now on"));
    Ok(())
}

/// Forgets the token for a server.
pub(crate) fn log_out(server: &str) -> Result<()> {
    match Logins::of_user()?.forget(&login_name(server)?)? {
        true => Ok(()),
        false => Err(missing(server)),
    }
}

/// Prints the token for a server.
pub(crate) async fn token(server: &str) -> Result<()> {
    let token = Logins::of_user()?.token(&login_name(server)?).await?;
    terminal::print(token.ok_or_else(|| missing(server))?.reveal())
}

fn missing(server: &str) -> Error {
    Error::new(Kind::NotFound, "there is no token for this server")
        .with("server", server)
        .hint("`lacus login` gets one; the address is the same there and here, but for user and options")
}
