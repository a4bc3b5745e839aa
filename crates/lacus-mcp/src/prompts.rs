//! Prompts: how a careful scientist would go about it.

use rmcp::model::{GetPromptResult, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::{Map, Value};

use crate::values::clean;

/// How long what is put into a prompt may be.
const LONGEST: usize = 2_000;

struct Template {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    argument: &'static str,
    meaning: &'static str,
    text: &'static str,
}

const TEMPLATES: [Template; 4] = [
    Template {
        name: "explore-dataset",
        title: "Explore a dataset",
        description: "Get to know a dataset before anything is asked of it",
        argument: "dataset",
        meaning: "its name, or words to find it by",
        text: "Get to know the dataset named below.\n\
               1. Find it with search_datasets, and read describe: what is measured, in which unit, over which range, under which licence.\n\
               2. Look at a few rows with sample.\n\
               3. Ask `SUMMARIZE <table>` for NULLs, ranges and counts of each column.\n\
               4. Say what the dataset is good for, what it lacks, and what you would check before using it.",
    },
    Template {
        name: "write-query",
        title: "Write a query",
        description: "From a question to one SQL statement that answers it",
        argument: "question",
        meaning: "what is to be known",
        text: "Answer the question below with one SQL statement.\n\
               1. Find the tables with search_datasets, and describe each: the names and the units decide what the SQL means.\n\
               2. Write the statement so that the answer is small: aggregate in SQL, and filter on partitions.\n\
               3. estimate it; narrow it when it reads much.\n\
               4. query it, and give the answer with its unit. Say when it is truncated.",
    },
    Template {
        name: "data-quality",
        title: "Check the quality of a dataset",
        description: "What is missing, doubled, out of range or in doubtful units",
        argument: "dataset",
        meaning: "its name",
        text: "Check the quality of the dataset named below, in SQL and with numbers.\n\
               1. describe it; doubt units that are missing or unlikely.\n\
               2. `SUMMARIZE <table>`: NULLs, ranges, values that stand for nothing (-999, 1e20, NaN).\n\
               3. Count rows that are there twice by what should be unique, and gaps in what should be continuous.\n\
               4. List each finding with the query that shows it, and how it would change an answer.",
    },
    Template {
        name: "test-hypothesis",
        title: "Test a hypothesis",
        description: "Look, estimate, query, test, cite: as a careful scientist does",
        argument: "hypothesis",
        meaning: "what may be true or not",
        text: "Test the hypothesis below.\n\
               1. Look: find the datasets, and describe them. Say which columns measure what the hypothesis is about, and in which units.\n\
               2. Before you see an answer, say what would speak for the hypothesis and what against, which test fits, and at which level.\n\
               3. Estimate, then query: the number of values in each group, their means and spreads.\n\
               4. Test in SQL: welch_t_test(x, group), paired_t_test(x, y), anova_test(x, group), mann_whitney_test(x, group), \
               kolmogorov_smirnov_test(x, group), pearson_test(x, y), spearman_test(x, y), chi_square_test(a, b), least_squares(y, x, ...). Each \
               gives the statistic, the p-value, and the size of the effect. bootstrap_interval(x, 'median', seed) assumes no distribution; \
               convert_units(x, 'degC', 'K') makes units one.\n\
               5. Say what follows and what doesn't: a p-value is no size, and several tests need a correction: adjusted_p_value(p, 'holm') OVER ().\n\
               6. Cite: give the `citation` of each answer and its query_id, so that it can be verified.",
    },
];

pub(crate) fn list() -> Vec<Prompt> {
    let prompt = |template: &Template| {
        let argument = PromptArgument::new(template.argument).with_description(template.meaning).with_required(true);
        Prompt::new(template.name, Some(template.description), Some(vec![argument])).with_title(template.title)
    };
    TEMPLATES.iter().map(prompt).collect()
}

/// A prompt with its argument; `Err` says what is wrong.
pub(crate) fn get(name: &str, arguments: Option<&Map<String, Value>>) -> Result<GetPromptResult, String> {
    let Some(template) = TEMPLATES.iter().find(|template| template.name == name) else {
        let known = TEMPLATES.iter().map(|template| template.name).collect::<Vec<_>>().join(", ");
        return Err(format!("no prompt `{}`; there are {known}", clean(name, 100).0));
    };
    let value = arguments.and_then(|arguments| arguments.get(template.argument)).and_then(Value::as_str);
    let value = value.ok_or_else(|| format!("the prompt `{name}` needs `{}`: {}", template.argument, template.meaning))?;
    let text = format!("{}\n\n{}: {}", template.text, template.argument, clean(value, LONGEST).0);
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(template.description))
}
