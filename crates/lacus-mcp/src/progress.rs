use std::sync::atomic::{AtomicU64, Ordering};

use lacus_engine::QueryProgress;
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;

/// Tells whoever waits how far a call is, if it wants to know.
pub(crate) struct Teller {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    told: AtomicU64,
}

impl Teller {
    pub(crate) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self { peer, token, told: AtomicU64::new(0) }
    }

    pub(crate) async fn tell(&self, progress: &QueryProgress) {
        let now = progress.now();
        // What is told must grow; a scan may count rows late.
        let rows = now.rows.max(self.told.load(Ordering::Relaxed) + 1);
        self.told.store(rows, Ordering::Relaxed);
        let mut told = ProgressNotificationParam::new(self.token.clone(), rows as f64);
        told.total = now.of_rows.map(|of| (of.max(rows)) as f64);
        told.message = Some(format!("{} rows and {} read", now.rows, crate::limits::size(now.bytes)));
        // Who has gone away needs no answer; the call ends by itself.
        if let Err(error) = self.peer.notify_progress(told).await {
            tracing::debug!(%error, "nobody hears how far a call is");
        }
    }
}
