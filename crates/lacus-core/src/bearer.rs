use std::fmt::Debug;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::{Principal, Result};

/// Who a token stands for.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// On whose behalf its calls run.
    pub principal: Principal,
    /// From when on it stands for nobody: what runs then ends.
    pub expires: Option<SystemTime>,
}

/// Those who say whom a token stands for: API keys, identity providers.
#[async_trait]
pub trait Tokens: Debug + Send + Sync {
    /// Whom `token` stands for; `None` when it is none of theirs.
    ///
    /// # Errors
    /// `Unauthenticated` with the reason why a token of theirs is refused, `Unavailable` when that can't be known now.
    async fn bearer(&self, token: &str) -> Result<Option<Bearer>>;

    /// As [`Tokens::bearer`], for what a client sends as a password because it can send nothing else. It may be a password of somebody, so it is
    /// shown to nobody.
    ///
    /// # Errors
    /// As [`Tokens::bearer`].
    async fn of_password(&self, password: &str) -> Result<Option<Bearer>> {
        self.bearer(password).await
    }
}
