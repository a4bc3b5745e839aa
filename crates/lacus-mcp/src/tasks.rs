//! Calls that take long, for clients that would rather ask how far they are than wait: the extension `io.modelcontextprotocol/tasks`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use lacus_core::{AgentLimits, Principal};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, CreateTaskResult, DetailedTask};
use rmcp::task_manager::{TaskExit, TaskManager, TaskOptions};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::kept::Asker;

/// How often whoever asks should ask.
const POLL_MS: u64 = 1_000;
/// How many tasks may run of one user, by whatever tokens, how many are kept of one, and of all. Whoever has as many waits for its calls.
const MOST_RUNNING: usize = 32;
const MOST_OF_ONE: usize = 128;
const MOST: usize = 512;

/// Whether two are one user, whatever their tokens say.
fn is_same_user(one: &Principal, other: &Principal) -> bool {
    one.kind() == other.kind() && one.name() == other.name()
}

/// A call that runs: dropping it ends it.
pub(crate) type Work = AbortOnDropHandle<Result<CallToolResult, ErrorData>>;

/// What a call gave.
pub(crate) fn ended(joined: Result<Result<CallToolResult, ErrorData>, JoinError>) -> Result<CallToolResult, ErrorData> {
    joined.unwrap_or_else(|error| {
        // What it says may hold values.
        tracing::error!(panicked = error.is_panic(), "a call of an agent stopped");
        Err(ErrorData::internal_error("the call stopped", None))
    })
}

/// What is known of a task beside how far it is.
struct Owned {
    asker: Asker,
    since: Instant,
    /// There while it runs.
    running: Weak<()>,
}

type Owners = HashMap<String, Owned>;

/// The tasks that there are.
#[derive(Default)]
pub(crate) struct Tasks {
    manager: TaskManager,
    owners: Mutex<Owners>,
}

impl Tasks {
    /// Makes a task of a call, which tells how far it is by `told`; gives it back where there are too many.
    pub(crate) fn begin(
        &self,
        work: Work,
        mut told: watch::Receiver<String>,
        asker: &Asker,
        limits: &AgentLimits,
    ) -> Result<CreateTaskResult, Work> {
        let life = limits.deadline.saturating_add(limits.kept_for);
        let mut owners = self.held();
        // The manager keeps how a task ended for as long as it may live.
        owners.retain(|_, task| task.since.elapsed() < life.saturating_add(limits.deadline));
        let (mut own, mut run) = (0, 0);
        for task in owners.values().filter(|task| is_same_user(&task.asker.principal, &asker.principal)) {
            own += 1;
            run += usize::from(task.running.strong_count() > 0);
        }
        if run >= MOST_RUNNING || own >= MOST_OF_ONE || owners.len() >= MOST {
            return Err(work);
        }
        let runs = Arc::new(());
        let running = Arc::downgrade(&runs);
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let task = self.manager.spawn(TaskOptions::new().with_ttl_ms(life).with_poll_interval_ms(POLL_MS), |context| {
            Box::pin(async move {
                let (mut work, _runs) = (work, runs);
                loop {
                    tokio::select! {
                        done = &mut work => return ended(done).map_err(TaskExit::Error),
                        () = context.cancelled() => return Err(TaskExit::Cancelled),
                        Ok(()) = told.changed() => context.set_status_message(told.borrow_and_update().clone()),
                    }
                }
            })
        });
        owners.insert(task.task_id.clone(), Owned { asker: asker.clone(), since: Instant::now(), running });
        Ok(CreateTaskResult::new(task))
    }

    /// How far a task is.
    pub(crate) fn get(&self, id: &str, asker: &Asker) -> Result<DetailedTask, ErrorData> {
        self.of(id, asker)?.get_task(id)
    }

    /// Takes what a client says to a task, which none of them asks for.
    pub(crate) fn update(&self, id: &str, asker: &Asker) -> Result<(), ErrorData> {
        self.of(id, asker)?.update_task(id, [])
    }

    /// Ends a task.
    pub(crate) fn cancel(&self, id: &str, asker: &Asker) -> Result<(), ErrorData> {
        self.of(id, asker)?.cancel_task(id)
    }

    /// What knows a task of this asker. That of another, and one that was begun by other rules, is not there.
    fn of(&self, id: &str, asker: &Asker) -> Result<&TaskManager, ErrorData> {
        let is_own = self.held().get(id).is_some_and(|task| task.asker == *asker);
        is_own.then_some(&self.manager).ok_or_else(|| ErrorData::invalid_params("no task of yours has this id", None))
    }

    /// A poisoned lock only means that another thread panicked; the map is valid at every instant.
    fn held(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
