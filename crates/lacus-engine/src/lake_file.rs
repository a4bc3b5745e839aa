use std::fmt::Debug;

use lacus_core::{DatasetName, DatasetSpec, Result, SpreadSpec, StoreName};
use lacus_storage::StoreSpec;

/// A lake file that is edited while an engine runs. Every query looks at it first, so it should be quick when nothing has changed.
pub trait LakeFile: Debug + Send + Sync {
    /// What the file says now, if that is not what it said when it was last asked.
    ///
    /// # Errors
    /// Why it can't be used, as long as it can't: the lake stays as it was, and every query carries a notice of it.
    fn changed(&self) -> Result<Option<LakeContent>>;
}

/// What a lake file says of stores and datasets. Its other tables hold from the start of an engine to its end.
#[derive(Debug, Clone)]
pub struct LakeContent {
    /// The stores.
    pub stores: Vec<StoreSpec>,
    /// The store that results are written to when their target names none.
    pub write_to: Option<StoreName>,
    /// The datasets.
    pub datasets: Vec<(DatasetName, DatasetSpec)>,
    /// The datasets that are spread over sites.
    pub spread: Vec<(DatasetName, SpreadSpec)>,
}
