use arrow::array::RecordBatch;
use futures::{StreamExt, stream};
use lacus_core::{Error, Kind, Result};
use lacus_remote::Batches;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// How many batches may wait to be taken.
const WAITING: usize = 2;

/// The batches that a task reads and sends. Whoever drops them closes the channel, by which the task knows that nobody reads on.
pub(crate) fn read_by(task: impl FnOnce(Sender<RecordBatch>) -> JoinHandle<Result<()>>) -> Batches {
    let (sender, receiver) = channel(WAITING);
    let task = task(sender);
    let next = |(mut receiver, task): (Receiver<RecordBatch>, Option<JoinHandle<Result<()>>>)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((Ok(batch), (receiver, task)));
        }
        // Without its last word nobody knows whether these were all rows.
        let broken = |error| Err(Error::new(Kind::Internal, format!("reading of a database broke off: {error}")));
        let ended = task?.await.unwrap_or_else(broken);
        ended.err().map(|error| (Err(error), (receiver, None)))
    };
    stream::unfold((receiver, Some(task)), next).fuse().boxed()
}
