//! What each test computes of what was kept. What can't be said of too few rows is NULL.

use std::collections::BTreeMap;

use datafusion_common::{Result, ScalarValue};
use lacus_core::{Error, Kind};

use super::sums::Moments;
use super::tails;

/// The part of intervals that holds the value that is looked for.
pub(super) const OUTSIDE: f64 = 0.05;
/// Up to so many values in the smaller group, and without equal ones, ranks are counted rather than taken for normal: as scipy does. So they are
/// up to so many pairs of values of the two groups, as counting takes memory and time by them.
const COUNTED: usize = 8;
const MOST_PAIRS: usize = 1_000_000;
/// Up to so many values in each group the paths of their order are counted, as scipy does, unless that took more than so many steps: groups that
/// large and that far apart are as unlikely by the limit.
const PATHS: usize = 10_000;
const STEPS: u128 = 25_000_000;

/// The values of a result, by the order of its fields; `None` where nothing can be said.
pub(super) type Tested = Option<Vec<ScalarValue>>;

fn float(number: f64) -> ScalarValue {
    ScalarValue::Float64(Some(number))
}

fn count(number: u64) -> ScalarValue {
    ScalarValue::UInt64(Some(number))
}

fn text(label: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(label.to_owned()))
}

/// The two groups that are compared, by the order of their labels.
fn two<'a, T>(name: &str, labels: &'a BTreeMap<String, T>) -> Result<Option<[(&'a str, &'a T); 2]>> {
    let mut found = labels.iter().map(|(label, group)| (label.as_str(), group));
    let (Some(first), Some(second)) = (found.next(), found.next()) else { return Ok(None) };
    if labels.len() > 2 {
        let shown: Vec<String> = labels.keys().take(5).map(|label| format!("`{label}`")).collect();
        let message = format!("`{name}` compares two groups, and there are {}: {}", labels.len(), shown.join(", "));
        return Err(Error::new(Kind::InvalidQuery, message).hint("leave the others out with WHERE; anova_test compares several").into());
    }
    Ok(Some([first, second]))
}

/// t, its degrees of freedom, how likely it is, and the interval around what was estimated with an error.
fn student(estimate: f64, error: f64, df: f64) -> [ScalarValue; 5] {
    let t = estimate / error;
    let reach = tails::quantile(OUTSIDE, df) * error;
    [t, df, tails::student(t, df), estimate - reach, estimate + reach].map(float)
}

pub(super) fn welch(name: &str, labels: &BTreeMap<String, Moments>) -> Result<Tested> {
    let Some([(label_a, a), (label_b, b)]) = two(name, labels)? else { return Ok(None) };
    if a.count < 2 || b.count < 2 {
        return Ok(None);
    }
    let [part_a, part_b] = [a, b].map(|group| group.variance_x() / group.count as f64);
    let error = (part_a + part_b).sqrt();
    // By the parts of the whole, whose squares are in range whatever the unit of the values.
    let part = part_a / (part_a + part_b);
    let df = 1.0 / (part.powi(2) / (a.count as f64 - 1.0) + (1.0 - part).powi(2) / (b.count as f64 - 1.0));
    let difference = a.mean_x() - b.mean_x();
    let mut tested =
        vec![text(label_a), text(label_b), count(a.count), count(b.count), float(a.mean_x()), float(b.mean_x()), float(difference)];
    tested.extend(student(difference, error, df));
    Ok(Some(tested))
}

/// Of the moments of differences.
pub(super) fn paired(differences: &Moments) -> Tested {
    if differences.count < 2 {
        return None;
    }
    let error = (differences.variance_x() / differences.count as f64).sqrt();
    let mut tested = vec![count(differences.count), float(differences.mean_x())];
    tested.extend(student(differences.mean_x(), error, differences.count as f64 - 1.0));
    Some(tested)
}

pub(super) fn anova(labels: &BTreeMap<String, Moments>) -> Tested {
    let rows: u64 = labels.values().map(|group| group.count).sum();
    let (between, within) = (labels.len() as f64 - 1.0, rows as f64 - labels.len() as f64);
    if between < 1.0 || within < 1.0 {
        return None;
    }
    let mut all = Moments::default();
    labels.values().for_each(|group| all.merge(group));
    let inside: f64 = labels.values().map(Moments::squares_x).sum();
    let mean = all.mean();
    // From the means: the difference of two sums of squares would lose what the groups differ by.
    let apart = |group: &Moments| {
        let difference = group.mean().minus(mean).value();
        group.count as f64 * difference * difference
    };
    let outside: f64 = labels.values().map(apart).sum();
    let f = (outside / between) / (inside / within);
    let p = tails::fisher(f, between, within);
    Some(vec![
        count(labels.len() as u64),
        count(rows),
        float(f),
        float(between),
        float(within),
        float(p),
        float(outside / (outside + inside)),
    ])
}

pub(super) fn pearson(pairs: &Moments) -> Tested {
    if pairs.count < 3 {
        return None;
    }
    let n = pairs.count as f64;
    let r = pairs.correlation();
    let p = tails::beta(n / 2.0 - 1.0, 0.5, (1.0 - r) * (1.0 + r), r * r);
    // The interval of Fisher.
    let reach = tails::quantile(OUTSIDE, f64::INFINITY) / (n - 3.0).sqrt();
    let [low, high] = if pairs.count == 3 && !r.is_nan() { [-1.0, 1.0] } else { [-reach, reach].map(|reach| (r.atanh() + reach).tanh()) };
    Some(vec![count(pairs.count), float(r), float(p), float(low), float(high)])
}

/// The ranks of numbers, equal ones sharing theirs, and the sum of t³ - t over how often each value is there.
fn ranks(numbers: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_unstable_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let (mut ranks, mut ties, mut start) = (vec![0.0; numbers.len()], 0.0, 0);
    while start < order.len() {
        // The two zeros are equal.
        let same = order[start..].iter().take_while(|place| numbers[**place] == numbers[order[start]]).count().max(1);
        let rank = start as f64 + (same as f64 + 1.0) / 2.0;
        order[start..start + same].iter().for_each(|place| ranks[*place] = rank);
        ties += (same as f64).powi(3) - same as f64;
        start += same;
    }
    (ranks, ties)
}

pub(super) fn spearman(x: &[f64], y: &[f64]) -> Tested {
    if x.len() < 3 || x.len() != y.len() {
        return None;
    }
    let n = x.len() as f64;
    if x.iter().chain(y).any(|number| number.is_nan()) {
        return Some(vec![count(x.len() as u64), float(f64::NAN), float(f64::NAN)]);
    }
    let mut pairs = Moments::default();
    ranks(x).0.iter().zip(ranks(y).0).for_each(|(x, y)| pairs.add(*x, y));
    let r = pairs.correlation();
    let p = tails::beta(n / 2.0 - 1.0, 0.5, (1.0 - r) * (1.0 + r), r * r);
    Some(vec![count(x.len() as u64), float(r), float(p)])
}

pub(super) fn mann_whitney(name: &str, labels: &BTreeMap<String, Vec<f64>>) -> Result<Tested> {
    let Some([(label_a, a), (label_b, b)]) = two(name, labels)? else { return Ok(None) };
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let head = [text(label_a), text(label_b), count(a.len() as u64), count(b.len() as u64)];
    let tested = |u: f64, p: f64, exact: bool| {
        Ok(Some(head.iter().cloned().chain([float(u), float(p), ScalarValue::Boolean(Some(exact)), float(u / (n_a * n_b))]).collect()))
    };
    if all.iter().any(|number| number.is_nan()) {
        return tested(f64::NAN, f64::NAN, false);
    }
    let (ranks, ties) = ranks(&all);
    let u = ranks[..a.len()].iter().sum::<f64>() - n_a * (n_a + 1.0) / 2.0;
    let far = u.max(n_a * n_b - u);
    let (few, many) = (a.len().min(b.len()), a.len().max(b.len()));
    if ties == 0.0 && few <= COUNTED && few.saturating_mul(many) <= MOST_PAIRS {
        return tested(u, (2.0 * counted_tail(few, many, far as usize)).min(1.0), true);
    }
    let n = n_a + n_b;
    // Rounding may bring it below 0 where all values are equal.
    let spread = (n_a * n_b / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))).max(0.0).sqrt();
    let z = (far - n_a * n_b / 2.0 - 0.5) / spread;
    tested(u, if z <= 0.0 { 1.0 } else { tails::normal(z) }, false)
}

pub(super) fn kolmogorov_smirnov(name: &str, labels: &BTreeMap<String, Vec<f64>>) -> Result<Tested> {
    let Some([(label_a, a), (label_b, b)]) = two(name, labels)? else { return Ok(None) };
    let head = [text(label_a), text(label_b), count(a.len() as u64), count(b.len() as u64)];
    let tested = |distance: f64, at: f64, p: f64, exact: bool| {
        Ok(Some(head.iter().cloned().chain([float(distance), float(at), float(p), ScalarValue::Boolean(Some(exact))]).collect()))
    };
    if a.iter().chain(b).any(|number| number.is_nan()) {
        return tested(f64::NAN, f64::NAN, f64::NAN, false);
    }
    let [mut a, mut b] = [a.clone(), b.clone()];
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    // How many of each are up to a value, and how far apart these parts are, in units of 1 / (|a| |b|).
    let (mut up_to_a, mut up_to_b, mut apart, mut at) = (0, 0, 0_u128, f64::NAN);
    while up_to_a < a.len() && up_to_b < b.len() {
        let value = a[up_to_a].min(b[up_to_b]);
        up_to_a += a[up_to_a..].iter().take_while(|number| **number <= value).count();
        up_to_b += b[up_to_b..].iter().take_while(|number| **number <= value).count();
        let here = (up_to_a as u128 * b.len() as u128).abs_diff(up_to_b as u128 * a.len() as u128);
        if here > apart {
            (apart, at) = (here, value);
        }
    }
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let distance = apart as f64 / (n_a * n_b);
    // Each path has so many places on its way that are inside.
    let steps = (2 * apart).min(a.len() as u128 * b.len() as u128);
    if a.len().max(b.len()) <= PATHS && steps <= STEPS {
        return tested(distance, at, outside(a.len(), b.len(), apart), true);
    }
    tested(distance, at, tails::kolmogorov(distance * (n_a / (n_a + n_b) * n_b).sqrt()), false)
}

/// How likely a path in steps of 1 from (0, 0) to (a, b), all of which are as likely, is to come where |x b - y a| is at least `apart`: each is an
/// order of the values of two groups. All that is added is positive, so that nothing cancels.
fn outside(a: usize, b: usize, apart: u128) -> f64 {
    let (wide, high) = (a as u128, b as u128);
    if apart == 0 {
        return 1.0;
    }
    // Of all y at one x: how likely a path to there has been outside. Where it is, it has.
    let mut paths: Vec<f64> = (0..=high).map(|y| if y * wide >= apart { 1.0 } else { 0.0 }).collect();
    for x in 1..=wide {
        let first = if x * high >= apart { (x * high - apart) / wide + 1 } else { 0 };
        let last = ((x * high + apart - 1) / wide).min(high);
        if first > last {
            return 1.0;
        }
        let mut below = 1.0;
        for y in first..=last {
            let (from_left, steps) = (paths[y as usize], (x + y) as f64);
            below = if y == 0 { from_left } else { (from_left * x as f64 + below * y as f64) / steps };
            paths[y as usize] = below;
        }
        // What lies below the first is outside for all that follow.
        if first > 0 {
            paths[first as usize - 1] = 1.0;
        }
    }
    paths[b]
}

/// How likely U is to be at least `u`, counted: each order of the values is as likely. By symmetry it is as likely to be as far below its most
/// as `u` is: there are few ways for that, and sums of few lose nothing.
fn counted_tail(few: usize, many: usize, u: usize) -> f64 {
    let far = (few * many).saturating_sub(u);
    // The ways for each sum of ranks above the least: the coefficients of a Gaussian binomial, by its factors.
    let mut ways = vec![0.0; far + 1];
    ways[0] = 1.0;
    let mut all = 1.0;
    for size in 1..=few {
        for sum in (many + size..=far).rev() {
            ways[sum] -= ways[sum - many - size];
        }
        for sum in size..=far {
            ways[sum] += ways[sum - size];
        }
        all *= (many + size) as f64 / size as f64;
    }
    ways.iter().sum::<f64>() / all
}

pub(super) fn chi_square(pairs: &BTreeMap<(String, String), u64>) -> Tested {
    let (mut rows, mut columns, mut all) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new(), 0_u64);
    for ((a, b), count) in pairs {
        *rows.entry(a).or_default() += count;
        *columns.entry(b).or_default() += count;
        all += count;
    }
    let (several, df) = (rows.len() > 1 && columns.len() > 1, (rows.len() as f64 - 1.0) * (columns.len() as f64 - 1.0));
    if !several {
        return None;
    }
    let expected = |a: &str, b: &str| rows[a] as f64 * columns[b] as f64 / all as f64;
    let (mut statistic, mut covered) = (0.0, 0.0);
    if df == 1.0 {
        for a in rows.keys() {
            for b in columns.keys() {
                let found = pairs.get(&((*a).to_owned(), (*b).to_owned())).copied().unwrap_or_default() as f64;
                // The correction of Yates, no larger than what is to be corrected.
                let apart = (found - expected(a, b)).abs();
                statistic += (apart - apart.min(0.5)).powi(2) / expected(a, b);
            }
        }
    } else {
        for ((a, b), found) in pairs {
            let expected = expected(a, b);
            statistic += (*found as f64 - expected).powi(2) / expected;
            covered += expected;
        }
        // Pairs that are nowhere add what was expected of them; there may be very many.
        if pairs.len() < rows.len().saturating_mul(columns.len()) {
            statistic += all as f64 - covered;
        }
    }
    let least =
        [rows.values().min(), columns.values().min()].into_iter().flatten().map(|count| *count as f64).product::<f64>() / all as f64;
    Some(vec![count(all), float(statistic), float(df), float(tails::chi_square(statistic, df)), float(least)])
}
