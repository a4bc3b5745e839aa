//! What is left of a small likelihood when many hypotheses are tested at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion_common::Result;
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{Documentation, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use lacus_core::{Error, Kind, nearest};

use super::{STATISTICS, numbers};
use crate::arguments::{is_text, require_numbers};

const NAME: &str = "adjusted_p_value";

/// How likelihoods are adjusted.
#[derive(Debug, Clone, Copy)]
enum Method {
    Bonferroni,
    Holm,
    Hochberg,
    BenjaminiHochberg,
    BenjaminiYekutieli,
}

impl Method {
    const ALL: [(&str, Self); 5] = [
        ("bonferroni", Self::Bonferroni),
        ("holm", Self::Holm),
        ("hochberg", Self::Hochberg),
        ("benjamini_hochberg", Self::BenjaminiHochberg),
        ("benjamini_yekutieli", Self::BenjaminiYekutieli),
    ];

    fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, method)| method).ok_or_else(|| {
            let error = Error::new(Kind::InvalidQuery, format!("`{NAME}` knows no method '{name}'"));
            match nearest(name, Self::ALL.into_iter().map(|(known, _)| known)) {
                Some(near) => error.hint(format!("did you mean '{near}'?")).into(),
                None => error.hint("bonferroni, holm, hochberg, benjamini_hochberg and benjamini_yekutieli are known").into(),
            }
        })
    }

    /// Likelihoods in their order, adjusted.
    fn adjust(self, sorted: &mut [f64]) {
        let all = sorted.len() as f64;
        let harmonic: f64 = (1..=sorted.len()).map(|rank| 1.0 / rank as f64).sum();
        for (place, likelihood) in sorted.iter_mut().enumerate() {
            let rank = place as f64 + 1.0;
            let factor = match self {
                Self::Bonferroni => all,
                Self::Holm | Self::Hochberg => all - place as f64,
                Self::BenjaminiHochberg => all / rank,
                Self::BenjaminiYekutieli => all / rank * harmonic,
            };
            *likelihood = (*likelihood * factor).min(1.0);
        }
        match self {
            Self::Bonferroni => {}
            // None is less than one that was less.
            Self::Holm => {
                sorted.iter_mut().fold(0.0_f64, |most, likelihood| {
                    *likelihood = likelihood.max(most);
                    *likelihood
                });
            }
            // None is more than one that was more.
            Self::Hochberg | Self::BenjaminiHochberg | Self::BenjaminiYekutieli => {
                sorted.iter_mut().rev().fold(1.0_f64, |least, likelihood| {
                    *likelihood = likelihood.min(least);
                    *likelihood
                });
            }
        }
    }
}

/// `adjusted_p_value(p, method) OVER (...)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AdjustedPValue {
    signature: Signature,
    documentation: Documentation,
}

impl AdjustedPValue {
    pub(super) fn new() -> Self {
        let what = "A likelihood (p value) as it is when the tests of all rows of the window are taken together: of many hypotheses some look \
                    true by chance. `bonferroni`, `holm` and `hochberg` bound how likely any is taken for true that is not, `benjamini_hochberg` \
                    and `benjamini_yekutieli` the part of such among those taken for true. Rows with NULL or NaN stay as they are, and count as \
                    no test.";
        let documentation = Documentation::builder(STATISTICS, what, format!("{NAME}(p, method) OVER ()"))
            .with_argument("p", "A number from 0 to 1")
            .with_argument("method", "bonferroni, holm, hochberg, benjamini_hochberg or benjamini_yekutieli")
            .with_sql_example(format!(
                "```sql\nSELECT gene, p, {NAME}(p, 'benjamini_hochberg') OVER () AS q\nFROM (SELECT gene, welch_t_test(level, treated)['p_value'] AS p FROM samples GROUP BY gene)\n```"
            ))
            .build();
        Self { signature: Signature::any(2, Volatility::Immutable), documentation }
    }
}

impl WindowUDFImpl for AdjustedPValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Adjusting))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        require_numbers(NAME, &types[..1])?;
        if !is_text(&types[1]) {
            let error = Error::new(Kind::InvalidQuery, format!("the method of `{NAME}` is a text, and a {} is none", types[1]));
            return Err(error.hint("adjusted_p_value(p, 'holm') OVER ()").into());
        }
        Ok(Arc::new(Field::new(args.name(), DataType::Float64, true)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Takes the rows of one window.
#[derive(Debug)]
struct Adjusting;

impl PartitionEvaluator for Adjusting {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let [likelihoods, methods] = values else { return Ok(Arc::new(Float64Array::new_null(0))) };
        let likelihoods = numbers(likelihoods)?;
        let likelihoods = likelihoods.as_primitive::<Float64Type>();
        let methods = cast(methods, &DataType::Utf8)?;
        let mut named: Vec<&str> = methods.as_string::<i32>().iter().flatten().collect();
        named.dedup();
        let method = match named.as_slice() {
            [] => return Ok(Arc::new(Float64Array::new_null(likelihoods.len()))),
            [name] if methods.null_count() == 0 => Method::of(name)?,
            _ => {
                let error = Error::new(Kind::InvalidQuery, format!("the method of `{NAME}` is another from row to row"));
                return Err(error.hint("write it out, such as 'holm'").into());
            }
        };
        if let Some(wrong) = likelihoods.iter().flatten().find(|likelihood| !likelihood.is_nan() && !(0.0..=1.0).contains(likelihood)) {
            return Err(Error::new(Kind::InvalidQuery, format!("{wrong} is no likelihood"))
                .hint(format!("`{NAME}` takes numbers from 0 to 1"))
                .into());
        }
        let counts = |row: &usize| likelihoods.is_valid(*row) && !likelihoods.value(*row).is_nan();
        let mut order: Vec<usize> = (0..likelihoods.len()).filter(counts).collect();
        order.sort_by(|a, b| likelihoods.value(*a).total_cmp(&likelihoods.value(*b)));
        let mut sorted: Vec<f64> = order.iter().map(|row| likelihoods.value(*row)).collect();
        method.adjust(&mut sorted);
        let mut adjusted: Vec<Option<f64>> = likelihoods.iter().collect();
        order.into_iter().zip(sorted).for_each(|(row, likelihood)| adjusted[row] = Some(likelihood));
        Ok(Arc::new(Float64Array::from(adjusted)))
    }
}
