//! How likely a statistic is to be so far out: the tails of the distributions of t, F, chi-square and of the normal one, with 10 digits and
//! more also where they are tiny.
//!
//! `statrs` stops its continued fraction after 140 steps and takes its factor from differences of logarithms of gamma functions: of a sample
//! of a million it has five digits. Here the factor is that of Loader ("Fast and accurate computation of binomial probabilities", 2000), in which
//! nothing large cancels.

use std::f64::consts::PI;

/// Below this a continued fraction is taken for 0, so that it can be divided by.
const TINY: f64 = 1e-300;
/// When a continued fraction has converged, and after how many steps it is given up.
const CLOSE: f64 = 1e-16;
const STEPS: u32 = 100_000;

/// What the formula of Stirling lacks of ln(n!), for n above 0 (Loader).
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        // Below 16 it is brought up by the recursion of the factorial: ln(n!) = ln((n + 1)!) - ln(n + 1).
        let steps = (16.0 - n).ceil() as u32;
        let (mut sum, mut at) = (0.0, n);
        for _ in 0..steps {
            // The difference of this error at n and n + 1.
            sum += (at + 0.5) * (1.0 / at).ln_1p() - 1.0;
            at += 1.0;
        }
        return sum + stirling_error(at);
    }
    let square = n * n;
    (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - (1.0 / 1188.0 - 691.0 / 360_360.0 / square) / square) / square) / square) / square)
        / n
}

/// x ln(x / m) + m - x, without cancellation where x is near m (Loader).
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() < 0.1 * (x + m) {
        let ratio = (x - m) / (x + m);
        let mut sum = (x - m) * ratio;
        let mut term = 2.0 * x * ratio;
        let square = ratio * ratio;
        for odd in (3..2000).step_by(2) {
            term *= square;
            let next = sum + term / f64::from(odd);
            if next == sum {
                return next;
            }
            sum = next;
        }
        return sum;
    }
    x * (x / m).ln() + m - x
}

/// x^a (1 - x)^b / B(a, b), for `y` = 1 - x.
fn power(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let n = a + b;
    // x^a y^b Γ(n) / (Γ(a) Γ(b)), written with the errors of Stirling's formula.
    let exponent = stirling_error(n) - stirling_error(a) - stirling_error(b) - deviance(a, n * x) - deviance(b, n * y);
    exponent.exp() * (a * (b / n) / (2.0 * PI)).sqrt()
}

/// The regularised incomplete beta function I_x(a, b), for `y` = 1 - x, which the caller knows better than by subtraction.
pub(super) fn beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() || x <= 0.0 {
        return if x.is_nan() || y.is_nan() { f64::NAN } else { 0.0 };
    }
    if y <= 0.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_fraction(b, a, y, x);
    }
    beta_fraction(a, b, x, y)
}

/// The same by its continued fraction (Lentz), which converges where x is below (a + 1) / (a + b + 2).
fn beta_fraction(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / apart(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / apart(1.0 + even * d);
        c = apart(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / apart(1.0 + odd * d);
        c = apart(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= CLOSE {
            break;
        }
    }
    power(a, b, x, y) * fraction / a
}

/// How likely |t| or more is.
pub(super) fn student(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() {
        return f64::NAN;
    }
    let square = t * t;
    if square.is_infinite() {
        return 0.0;
    }
    beta(df / 2.0, 0.5, df / (df + square), square / (df + square))
}

/// How likely `f` or more is.
pub(super) fn fisher(f: f64, between: f64, within: f64) -> f64 {
    if f.is_infinite() {
        return 0.0;
    }
    let whole = within + between * f;
    beta(within / 2.0, between / 2.0, within / whole, between * f / whole)
}

/// How likely `x` or more is: the regularised upper incomplete gamma function Q(df / 2, x / 2).
pub(super) fn chi_square(x: f64, df: f64) -> f64 {
    gamma_upper(df / 2.0, x / 2.0)
}

fn gamma_upper(a: f64, x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x <= 0.0 {
        return 1.0;
    }
    // x^a e^-x / Γ(a)
    let factor = (-stirling_error(a) - deviance(a, x)).exp() * (a / (2.0 * PI)).sqrt();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..STEPS {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * CLOSE {
                break;
            }
        }
        return 1.0 - factor * sum;
    }
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut fraction = d;
    for step in 1..STEPS {
        let m = f64::from(step);
        let term = -m * (m - a);
        b += 2.0;
        d = 1.0 / apart(term * d + b);
        c = apart(b + term / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= CLOSE {
            break;
        }
    }
    factor * fraction
}

/// How likely |z| or more is.
pub(super) fn normal(z: f64) -> f64 {
    // erfc(|z| / √2) = Q(1/2, z² / 2)
    gamma_upper(0.5, z * z / 2.0)
}

/// How likely the greatest distance of two distribution functions is to be at least `distance`, times the root of the numbers of values: the
/// limit for many of them (Kolmogorov).
pub(super) fn kolmogorov(distance: f64) -> f64 {
    if distance.is_nan() {
        return f64::NAN;
    }
    if distance < 1.0 {
        // The theta function the other way round, which converges here.
        let term = |step: u32| (-(f64::from(2 * step + 1) * PI / distance).powi(2) / 8.0).exp();
        return (1.0 - (2.0 * PI).sqrt() / distance * (0..20).map(term).sum::<f64>()).clamp(0.0, 1.0);
    }
    let term = |step: u32| {
        let sign = if step % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * (f64::from(step) * distance).powi(2)).exp()
    };
    2.0 * (1..20).map(term).sum::<f64>()
}

/// The t above which and below whose negative lies the part `p` of the distribution, or of the normal one for an infinite `df`.
pub(super) fn quantile(p: f64, df: f64) -> f64 {
    if df.is_nan() {
        return f64::NAN;
    }
    let tail = |t: f64| if df.is_infinite() { normal(t) } else { student(t, df) };
    let (mut low, mut high) = (0.0, 1.0);
    while tail(high) > p {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high {
            break;
        }
        if tail(middle) > p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}
