//! The access matrix: principals x tables x doors x ways of asking. What a principal is answered about a table that it sees in part is what
//! the owner is answered about a table that holds no more than that part; nothing that is hidden stands in any answer, error or plan.

#[path = "clients/processes.rs"]
mod clients;
#[path = "access/doors.rs"]
mod doors;
#[path = "access/lake.rs"]
mod lake;
#[path = "access/rights.rs"]
mod rights;

use std::collections::HashMap;

use doors::{Answer, Door, Doors, rows};
use lacus::{Decided, Session, TryStreamExt};
use lake::{HIDDEN, Lake, TABLES, Table};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Ways of asking about `{t}`: all tables have the columns `id`, `name` and `v`.
const WAYS: [&str; 40] = [
    "SELECT * FROM {t} ORDER BY id",
    "SELECT id, v FROM {t} ORDER BY id",
    "SELECT name FROM {t} ORDER BY name NULLS LAST, id",
    "SELECT count(*) FROM {t}",
    "SELECT count(v), count(name) FROM {t}",
    "SELECT min(id), max(id), min(v), max(v), min(name), max(name) FROM {t}",
    "SELECT sum(v), avg(v), stddev(v) FROM {t}",
    "SELECT name, count(*) FROM {t} GROUP BY name ORDER BY name NULLS LAST",
    "SELECT approx_distinct(name) FROM {t}",
    "SELECT array_agg(name ORDER BY id) FROM {t}",
    "SELECT string_agg(name, ',' ORDER BY id) FROM {t}",
    "SELECT a.id, b.name FROM {t} a JOIN {t} b ON a.id = b.id ORDER BY a.id",
    "SELECT p.id, t.v FROM plain p LEFT JOIN {t} t ON p.id = t.id ORDER BY p.id",
    "SELECT id FROM plain WHERE id IN (SELECT id FROM {t}) ORDER BY id",
    "SELECT id FROM plain WHERE id NOT IN (SELECT id FROM {t}) ORDER BY id",
    "SELECT id FROM plain p WHERE EXISTS (SELECT 1 FROM {t} t WHERE t.id = p.id) ORDER BY id",
    "SELECT (SELECT max(v) FROM {t}) AS most",
    "WITH c AS (SELECT * FROM {t}) SELECT c.id, d.id FROM c JOIN c d ON c.id = d.id + 1 ORDER BY c.id",
    "SELECT id FROM {t} UNION ALL SELECT id FROM plain ORDER BY id",
    "SELECT id FROM {t} EXCEPT SELECT id FROM plain ORDER BY id",
    "SELECT id, row_number() OVER (ORDER BY id) AS n, lag(v) OVER (ORDER BY id) AS before FROM {t} ORDER BY id",
    "SELECT id, sum(v) OVER () AS total FROM {t} ORDER BY id",
    "SELECT * FROM {t} WHERE v > 900000000 ORDER BY id",
    "SELECT count(*) FROM {t} WHERE v > 900000000",
    "SELECT count(*) FROM {t} WHERE name LIKE 'SECRET%'",
    "SELECT count(*) FROM {t} WHERE id > 100",
    "SELECT count(*) FROM {t} WHERE id IN (1, 2, 101, 102)",
    "SELECT id FROM {t} WHERE 1 / (v - 987654321) > 0 ORDER BY id",
    "SELECT id FROM {t} WHERE CAST(name AS BIGINT) = 1 ORDER BY id",
    "SELECT CAST(name AS BIGINT) FROM {t}",
    "SELECT id FROM {t} WHERE CASE WHEN v = 987654321 THEN 1 / (v - v) = 1 ELSE true END ORDER BY id",
    "SELECT id FROM {t} ORDER BY v DESC, id LIMIT 1",
    "SELECT DISTINCT name FROM {t} ORDER BY name NULLS LAST",
    "SELECT id FROM {t} WHERE name = 'SECRET-other' OR v = 987654321 ORDER BY id",
    "SELECT 'x' FROM {t} LIMIT 2",
    "SELECT * FROM (SELECT id, v FROM {t} WHERE v IS NOT NULL) ORDER BY id",
    "DESCRIBE {t}",
    "SHOW COLUMNS FROM {t}",
    "SUMMARIZE {t}",
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{t}' ORDER BY ordinal_position",
];

/// Ways of asking of which the text of the answer is of no interest, but that it tells nothing.
const EXPLAINS: [&str; 6] = [
    "EXPLAIN SELECT * FROM {t} WHERE v > 900000000",
    "EXPLAIN VERBOSE SELECT count(*), max(v) FROM {t}",
    "EXPLAIN ANALYZE SELECT * FROM {t} WHERE v > 900000000",
    "EXPLAIN ANALYZE SELECT count(*) FROM {t} WHERE name = 'SECRET-other'",
    "EXPLAIN FORMAT TREE SELECT id FROM {t}",
    "SELECT sql, error, rows_read, bytes_read FROM system.queries WHERE \"user\" = 'owner'",
];

/// The rules that show some of the rows of a table.
const PARTS: [&str; 3] = ["one's own rows", "all at once", "controlled by name"];

#[derive(Default)]
struct Matrix {
    cases: usize,
    leaks: Vec<String>,
    /// What the owner was answered.
    wanted: HashMap<(Door, String), Answer>,
}

/// Whether it is only asked if anything leaks at all.
fn first_leak() -> bool {
    std::env::var_os("LACUS_FIRST_LEAK").is_some()
}

impl Matrix {
    /// Whether one leak is enough to know, as where an enforcement point was removed.
    fn is_over(&self) -> bool {
        !self.leaks.is_empty() && first_leak()
    }

    async fn of_owner(&mut self, doors: &Doors, door: Door, question: String) -> Answer {
        let key = (door, question);
        if let Some(known) = self.wanted.get(&key) {
            return known.clone();
        }
        let answer = doors.ask(door, "owner", &key.1).await;
        self.wanted.insert(key, answer.clone());
        answer
    }

    fn look(&mut self, case: &str, answer: &Answer) {
        self.cases += 1;
        // The text of the question may stand in an answer.
        let told = case.split_once(": ").map_or_else(|| answer.text(), |(_, question)| answer.text().replace(question, ""));
        // Operators see the phone numbers of `lessened`.
        let is_shown =
            |hidden: &str| case.contains(hidden) || (case.starts_with("bob") && case.contains("lessened") && hidden.starts_with("555"));
        for hidden in HIDDEN {
            if told.contains(hidden) && !is_shown(hidden) {
                self.leaks.push(format!("{case}: `{hidden}` stands in {told}"));
            }
        }
    }

    fn same(&mut self, case: &str, answer: &Answer, wanted: &Answer) {
        self.look(case, answer);
        if answer != wanted {
            self.leaks.push(format!("{case}:\n{}\nin the place of\n{}", answer.text(), wanted.text()));
        }
    }

    fn wanted(&mut self, case: &str, answer: &Answer, is_wanted: impl FnOnce(&str) -> bool) {
        self.look(case, answer);
        if !matches!(answer, Answer::Refused(_, text) if is_wanted(text)) {
            self.leaks.push(format!("{case}: {}", answer.text()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_is_not_granted() -> TestResult {
    let lake = Lake::new()?;
    let doors = Doors::open(&lake).await?;
    assert_eq!(doors.engine.check_policy().await?.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let mut matrix = Matrix::default();
    let opened = if first_leak() { vec![Door::Embedded] } else { doors.opened() };
    for principal in ["ada", "bob", "anonymous"] {
        for door in opened.iter().copied() {
            for table in &TABLES {
                if matrix.is_over() {
                    break;
                }
                ways(&mut matrix, &doors, principal, door, table).await?;
            }
        }
    }
    let checked = match matrix.is_over() {
        true => Ok(()),
        false => rights::check(&mut matrix, &lake, &doors).await,
    };
    for leak in &matrix.leaks {
        println!("leak: {leak}\n");
    }
    println!("access matrix: {} cases, {} leaks", matrix.cases, matrix.leaks.len());
    checked?;
    assert!(matrix.cases >= 500 && matrix.leaks.is_empty());
    Ok(())
}

/// A policy that lets somebody see a table as it is changes nothing in the plans that read it.
#[tokio::test(flavor = "multi_thread")]
async fn plans_of_what_is_seen_as_it_is_are_as_without_a_policy() -> TestResult {
    let lake = Lake::new()?;
    let governed = lake.engine()?;
    let mut free = lake.config()?;
    free.policy = None;
    let free = free.engine()?;
    let mut compared = 0;
    let plans = |way: &&&str| ["SELECT", "WITH"].iter().any(|word| way.starts_with(word)) && !way.contains("information_schema");
    for way in WAYS.iter().filter(plans) {
        let question = format!("EXPLAIN VERBOSE {}", way.replace("{t}", "plain"));
        let (mut plans, mut wanted) = (Vec::new(), Vec::new());
        for (engine, name, plans) in [(&governed, "ada", &mut plans), (&free, "owner", &mut wanted)] {
            let query = engine.query(&question, &[], &Session::new(&lake::principal(name))).await?;
            let told: Vec<_> = query.stream()?.try_collect().await?;
            // The rules that look at a plan have names of their own, and those that change nothing say so.
            let steps = told.iter().flat_map(rows).map(|row| row.join(": "));
            plans.extend(steps.filter(|step| !step.contains("SAME TEXT AS ABOVE") && !step.contains("check_access")));
        }
        assert_eq!(plans, wanted, "{question}");
        compared += 1;
    }
    assert!(compared >= 30, "{compared}");
    Ok(())
}

/// One table, asked in all ways.
async fn ways(matrix: &mut Matrix, doors: &Doors, principal: &str, door: Door, table: &Table) -> TestResult {
    let name = table.name;
    let seen = table.seen_by(principal);
    let object = format!("lab.main.{name}");
    // The command starts a process for each question, and asks as Flight does.
    for way in WAYS.iter().step_by(if door == Door::Command { 6 } else { 1 }) {
        let question = way.replace("{t}", name);
        let case = format!("{principal} by {door:?}: {question}");
        // What decides doesn't depend on the door. Of what is not there for it, `information_schema` asks nobody.
        if door == Door::Embedded && !way.contains("information_schema") {
            let report = doors.engine.check_access(&question, &lake::principal(principal)).await;
            let decided = report.map(|report| report.decided).unwrap_or_default();
            let rule = seen.map_or(table.denied_by, |(rule, _)| Some(rule));
            let named =
                |decided: &Decided| decided.object == object && decided.is_allowed == seen.is_some() && decided.rule.as_deref() == rule;
            if !decided.iter().any(named) {
                matrix.leaks.push(format!("{case}: is not decided by {rule:?}, but by {decided:?}"));
            }
        }
        let answer = doors.ask(door, principal, &question).await;
        match seen {
            // What is seen of it is in a table of its own, which the owner asks in the same way.
            Some((_, as_table)) => {
                let wanted = matrix.of_owner(doors, door, way.replace("{t}", as_table)).await;
                matrix.same(&case, &answer.about(name), &wanted.about(as_table));
            }
            None if way.contains("information_schema") => {
                let wanted = matrix.of_owner(doors, door, way.replace("{t}", "nosuch")).await;
                matrix.same(&case, &answer, &wanted);
            }
            None => matrix.wanted(&case, &answer, |text| text.contains(&format!("no table `{name}`"))),
        }
    }
    // Who oversees queries reads the texts of others.
    let ways = EXPLAINS.iter().filter(|way| principal != "bob" || !way.contains("system.queries"));
    for way in ways.step_by(if door == Door::Command { 3 } else { 1 }) {
        let question = way.replace("{t}", name);
        let (case, answer) = (format!("{principal} by {door:?}: {question}"), doors.ask(door, principal, &question).await);
        matrix.look(&case, &answer);
        if seen.is_some_and(|(rule, _)| PARTS.contains(&rule)) && !way.contains("system.queries") {
            // What the rule is about stands below the barrier, and so does what was read for it.
            let tells = answer.text().contains("owner") || way.contains("ANALYZE") && !answer.text().contains("not told of tables");
            if tells {
                matrix.leaks.push(format!("{case}: tells of what is below the barrier: {}", answer.text()));
            }
        }
    }
    Ok(())
}
