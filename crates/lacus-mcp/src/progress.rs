use std::sync::atomic::{AtomicU64, Ordering};

use lacus_engine::QueryProgress;
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Tells whoever waits, or asks, how far a call is.
pub(crate) struct Teller {
    /// Who waits, if it wants to know.
    waiting: Option<(Peer<RoleServer>, ProgressToken)>,
    /// Cancelled once nobody waits.
    answered: CancellationToken,
    /// What is said to who asks.
    said: watch::Sender<String>,
    told: AtomicU64,
}

impl Teller {
    pub(crate) fn new(waiting: Option<(Peer<RoleServer>, ProgressToken)>, answered: CancellationToken) -> Self {
        Self { waiting, answered, said: watch::Sender::default(), told: AtomicU64::new(0) }
    }

    /// What is said to who asks, from now on.
    pub(crate) fn said(&self) -> watch::Receiver<String> {
        self.said.subscribe()
    }

    pub(crate) async fn tell(&self, progress: &QueryProgress) {
        let now = progress.now();
        let message = format!("{} rows and {} read", now.rows, crate::limits::size(now.bytes));
        self.said.send_replace(message.clone());
        let Some((peer, token)) = self.waiting.as_ref().filter(|_| !self.answered.is_cancelled()) else { return };
        // What is told must grow; a scan may count rows late.
        let rows = now.rows.max(self.told.load(Ordering::Relaxed) + 1);
        self.told.store(rows, Ordering::Relaxed);
        let mut told = ProgressNotificationParam::new(token.clone(), rows as f64);
        told.total = now.of_rows.map(|of| (of.max(rows)) as f64);
        told.message = Some(message);
        // Who has gone away needs no answer; the call ends by itself.
        if let Err(error) = peer.notify_progress(told).await {
            tracing::debug!(%error, "nobody hears how far a call is");
        }
    }
}
