//! What the functions of statistics keep of their rows, and how it travels between partitions.

use std::collections::BTreeMap;

use datafusion_common::{Result, exec_datafusion_err};

use super::sums::Moments;

/// What is kept of the rows of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Samples {
    /// Sums for each label: no more of many rows than of few.
    Moments(BTreeMap<String, Moments>),
    /// All numbers of each label, which ranks need.
    Numbers(BTreeMap<String, Vec<f64>>),
    /// How often two labels stand in one row.
    Counts(BTreeMap<(String, String), u64>),
}

impl Samples {
    /// The bytes that it takes.
    pub(super) fn size(&self) -> usize {
        // A node of a tree has room for eleven entries, and at least six in it but for the first.
        let nodes = |entries: usize, entry: usize| entries.div_ceil(6) * 11 * entry;
        match self {
            Self::Moments(labels) => nodes(labels.len(), size_of::<(String, Moments)>()) + labels.keys().map(String::len).sum::<usize>(),
            Self::Numbers(labels) => {
                // Ranks are those of all values, in their order.
                let kept = labels.iter().map(|(label, numbers)| label.len() + (numbers.capacity() + 3 * numbers.len()) * size_of::<f64>());
                nodes(labels.len(), size_of::<(String, Vec<f64>)>()) + kept.sum::<usize>()
            }
            Self::Counts(pairs) => {
                nodes(pairs.len(), size_of::<((String, String), u64)>()) + pairs.keys().map(|(a, b)| a.len() + b.len()).sum::<usize>()
            }
        }
    }

    /// As bytes, for another partition of the same engine.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Moments(labels) => labels.iter().for_each(|(label, moments)| {
                put_text(&mut bytes, label);
                bytes.extend(moments.count.to_le_bytes());
                moments.numbers().for_each(|number| bytes.extend(number.to_le_bytes()));
            }),
            Self::Numbers(labels) => labels.iter().for_each(|(label, numbers)| {
                put_text(&mut bytes, label);
                bytes.extend((numbers.len() as u64).to_le_bytes());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }),
            Self::Counts(pairs) => pairs.iter().for_each(|((a, b), count)| {
                put_text(&mut bytes, a);
                put_text(&mut bytes, b);
                bytes.extend(count.to_le_bytes());
            }),
        }
        bytes
    }

    /// Adds what another partition kept.
    pub(super) fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let label = take_text(&mut rest)?;
            match self {
                Self::Moments(labels) => {
                    let count = take_count(&mut rest)?;
                    let numbers = take_numbers(&mut rest, Moments::NUMBERS)?;
                    labels.entry(label).or_default().merge(&Moments::of_numbers(count, &numbers));
                }
                Self::Numbers(labels) => {
                    let count = usize::try_from(take_count(&mut rest)?).map_err(|_| broken())?;
                    let numbers = take_numbers(&mut rest, count)?;
                    labels.entry(label).or_default().extend(numbers);
                }
                Self::Counts(pairs) => {
                    let other = take_text(&mut rest)?;
                    *pairs.entry((label, other)).or_default() += take_count(&mut rest)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn broken() -> datafusion_common::DataFusionError {
    exec_datafusion_err!("what a partition kept for a function of statistics is broken")
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).ok_or_else(broken)?;
    *rest = left;
    Ok(taken)
}

pub(super) fn take_count(rest: &mut &[u8]) -> Result<u64> {
    take(rest, 8)?.try_into().map(u64::from_le_bytes).map_err(|_| broken())
}

fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length = usize::try_from(take_count(rest)?).map_err(|_| broken())?;
    String::from_utf8(take(rest, length)?.to_vec()).map_err(|_| broken())
}

pub(super) fn take_numbers(rest: &mut &[u8], count: usize) -> Result<Vec<f64>> {
    let bytes = take(rest, count.checked_mul(8).ok_or_else(broken)?)?;
    Ok(bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap_or_default())).collect())
}
