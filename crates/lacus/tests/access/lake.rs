//! A lake with a policy, and with a copy of what each principal sees of it.

use std::path::Path;

use lacus::{Config, Engine, Principal};

use crate::TestResult;

/// What is hidden from everybody but the owner, wherever it stands.
pub(crate) const HIDDEN: [&str; 4] = ["SECRET", "987654321", "987,654,321", "555-0199"];

/// One table of the lake.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Who sees it: by which rule, and as which table.
    seen: &'static [(&'static str, &'static str, &'static str)],
    /// By which rule the others don't; by none, if none is about it.
    pub(crate) denied_by: Option<&'static str>,
}

impl Table {
    /// The rule by which a principal sees the table, and the table that holds what it sees.
    pub(crate) fn seen_by(&self, principal: &str) -> Option<(&'static str, &'static str)> {
        self.seen.iter().find(|(who, ..)| *who == principal).map(|(_, rule, table)| (*rule, *table))
    }
}

pub(crate) const TABLES: [Table; 10] = [
    Table { name: "viewed", seen: &[("ada", "a view of names", "seen_viewed")], denied_by: None },
    Table {
        name: "plain",
        seen: &[("ada", "open data", "plain"), ("bob", "open data", "plain"), ("anonymous", "open data", "plain")],
        denied_by: None,
    },
    Table { name: "filtered", seen: &[("ada", "one's own rows", "seen_filtered")], denied_by: None },
    Table { name: "masked", seen: &[("ada", "without names", "seen_masked")], denied_by: None },
    Table { name: "lessened", seen: &[("ada", "without phones", "seen_lessened"), ("bob", "whole", "lessened_whole")], denied_by: None },
    Table { name: "everything", seen: &[("ada", "all at once", "seen_everything")], denied_by: None },
    Table {
        name: "released",
        seen: &[("ada", "open data", "plain"), ("bob", "open data", "plain"), ("anonymous", "open data", "plain")],
        denied_by: None,
    },
    Table { name: "embargoed", seen: &[], denied_by: None },
    Table { name: "controlled", seen: &[("ada", "controlled by name", "seen_filtered")], denied_by: None },
    Table { name: "unnamed", seen: &[], denied_by: Some("nobody") },
];

const POLICY: &str = r#"
version = "1"

[group.operators]
members = ["bob"]

[[rule]]
name = "nobody"
to = ["everyone"]
tables = ["unnamed", "hideout.*"]
deny = ["select", "insert", "update", "delete", "create", "drop", "admin"]

[[rule]]
name = "one's own rows"
to = ["user:ada"]
tables = ["filtered"]
allow = ["select", "insert"]
filter = "owner = current_user()"
hide = ["owner"]

[[rule]]
name = "without names"
to = ["user:ada"]
tables = ["masked"]
allow = ["select"]
mask = { name = "concat(left(name, 1), '***')", v = "NULL" }

[[rule]]
name = "whole"
to = ["group:operators"]
tables = ["lessened"]
allow = ["select"]

[[rule]]
name = "without phones"
to = ["user:ada"]
tables = ["lessened"]
allow = ["select"]
hide = ["phone"]

[[rule]]
name = "all at once"
to = ["user:ada"]
tables = ["everything"]
allow = ["select"]
filter = "owner IN (SELECT member FROM members WHERE person = current_user() AND 'plasma' = ANY(current_groups()))"
mask = { name = "'somebody'" }
hide = ["owner", "phone"]

[[rule]]
name = "controlled by name"
to = ["user:ada"]
tables = ["controlled"]
classification = ["controlled"]
allow = ["select"]
filter = "owner = current_claim('login')"
hide = ["owner"]

[[rule]]
name = "a view of names"
to = ["user:ada"]
tables = ["viewed"]
allow = ["select"]
filter = "id < 100"

[[rule]]
name = "own part of what is shared"
to = ["user:ada"]
tables = ["shared.mine_*"]
allow = ["select", "create", "drop"]

[[rule]]
name = "kept"
to = ["everyone"]
tables = ["mixed.kept"]
deny = ["drop"]

[[rule]]
name = "mixed"
to = ["user:ada"]
tables = ["mixed.*"]
allow = ["select", "create", "drop"]

[[rule]]
name = "part of a table"
to = ["user:ada"]
tables = ["partial"]
allow = ["select", "insert", "update", "delete"]
filter = "id < 100"

[[rule]]
name = "without a column"
to = ["user:ada"]
tables = ["hiding"]
allow = ["select", "insert"]
hide = ["name"]

[[rule]]
name = "a filter that fails"
to = ["user:ada"]
tables = ["failing"]
allow = ["select"]
filter = "CAST(name AS BIGINT) > 0"

[[rule]]
name = "write-only"
to = ["user:ada"]
tables = ["inbox"]
allow = ["insert"]

[[rule]]
name = "own tables"
to = ["user:ada"]
tables = ["ada_*", "labbook.*"]
allow = ["select", "insert", "update", "delete", "create", "drop"]

[[rule]]
name = "not for ada"
to = ["user:ada"]
paths = ["disk:open/not"]
deny = ["select"]

[[rule]]
name = "own folder"
to = ["user:ada"]
paths = ["disk:open"]
allow = ["select", "create"]

[[rule]]
name = "results"
to = ["user:ada"]
paths = ["disk:results"]
allow = ["insert"]

[[rule]]
name = "batch size"
to = ["user:ada"]
settings = ["datafusion.execution.batch_size"]
allow = ["select"]

[[rule]]
name = "open data"
to = ["everyone"]
tables = ["plain", "released", "embargoed", "controlled"]
allow = ["select"]

[[rule]]
name = "operators"
to = ["group:operators"]
tables = ["system.queries", "system.audit"]
allow = ["select", "admin"]
"#;

/// The lake, in a folder of its own.
pub(crate) struct Lake {
    folder: tempfile::TempDir,
}

/// A principal by its name. The owner is the owner.
pub(crate) fn principal(name: &str) -> Principal {
    match name {
        "owner" => Principal::owner(),
        "anonymous" => Principal::anonymous(),
        "ada" => Principal::user("ada").with_groups(["plasma".to_owned()]).with_claims([("login".to_owned(), "ada".to_owned())]),
        name => Principal::user(name),
    }
}

/// The lake file.
fn lake_file() -> String {
    let datasets = [
        "plain",
        "filtered",
        "seen_filtered",
        "masked",
        "pseudonyms",
        "lessened",
        "lessened_whole",
        "seen_lessened",
        "everything",
        "seen_everything",
        "unnamed",
        "members",
    ];
    let mut text = "[lake]\nname = \"lab\"\nwrite_to = \"disk\"\n[policy]\nfile = \"policy.toml\"\n[audit]\nfile = \"audit.jsonl\"\n\
                    [store.disk]\nurl = \"store\"\nwritable = true\n"
        .to_owned();
    let schema = "[dataset.{}]\npath = \"{}.csv\"\n";
    for name in datasets {
        text.push_str(&schema.replace("{}", name));
        if name == "everything" {
            text.push_str("primary_key = [\"phone\"]\n");
        }
    }
    text.push_str("[dataset.released]\npath = \"released.csv\"\nclassification = \"embargoed\"\nembargo_until = \"2020-01-01\"\n");
    text.push_str("[dataset.embargoed]\npath = \"embargoed.csv\"\nclassification = \"embargoed\"\nembargo_until = \"2999-01-01\"\n");
    text.push_str("[dataset.controlled]\npath = \"controlled.csv\"\nclassification = \"controlled\"\nprimary_key = [\"id\"]\n");
    text.push_str("[dataset.unnamed.foreign_keys.fk]\ncolumns = [\"id\"]\nreferences = \"plain\"\nreferenced = [\"id\"]\n");
    text
}

impl Lake {
    pub(crate) fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let lake = Self { folder };
        let rows = [
            (1, "Ann", 10, "ada", "555-0100"),
            (2, "Ben", 20, "ada", "555-0101"),
            (3, "", 30, "ada", "555-0102"),
            (101, "SECRET-other", 987_654_321, "bob", "555-0199"),
            (102, "SECRET-third", 987_654_321, "carl", "555-0199"),
        ];
        let own = &rows[..3];
        let all = |rows: &[(i64, &str, i64, &str, &str)]| {
            let lines = rows.iter().map(|(id, name, v, owner, phone)| format!("{id},{name},{v},{owner},{phone}\n")).collect::<String>();
            format!("id,name,v,owner,phone\n{lines}")
        };
        let some = |rows: &[(i64, &str, i64, &str, &str)], mask: fn(&str, i64) -> (String, String)| {
            let line = |(id, name, v, ..): &(i64, &str, i64, &str, &str)| {
                let (name, v) = mask(name, *v);
                format!("{id},{name},{v}\n")
            };
            format!("id,name,v\n{}", rows.iter().map(line).collect::<String>())
        };
        let as_is = |name: &str, v: i64| (name.to_owned(), v.to_string());
        let owned = |rows: &[(i64, &str, i64, &str, &str)]| {
            let lines = rows.iter().map(|(id, name, v, owner, _)| format!("{id},{name},{v},{owner}\n")).collect::<String>();
            format!("id,name,v,owner\n{lines}")
        };
        let pseudonyms = [(1, "A***"), (2, "B***"), (3, "***"), (101, "S***"), (102, "S***")];
        let masked: String = pseudonyms.iter().map(|(id, name)| format!("{id},{name},\n")).collect();
        let quiet = [(1, "Ann", 10, "ada", "555-0100"), (2, "Ben", 20, "ada", "555-0101")];
        let lessened: String = quiet.iter().map(|(id, name, v, ..)| format!("{id},{name},{v},555-0199\n")).collect();
        let lessened = format!("id,name,v,phone\n{lessened}");
        for (file, text) in [
            ("plain.csv", some(own, as_is)),
            ("released.csv", some(own, as_is)),
            ("filtered.csv", owned(&rows)),
            ("controlled.csv", owned(&rows)),
            ("seen_filtered.csv", some(own, as_is)),
            ("masked.csv", some(&rows, as_is)),
            ("pseudonyms.csv", format!("id,name,v\n{masked}")),
            ("lessened.csv", lessened.clone()),
            ("lessened_whole.csv", lessened),
            ("seen_lessened.csv", some(&quiet, as_is)),
            ("everything.csv", all(&rows)),
            ("seen_everything.csv", some(own, |_, v| ("somebody".to_owned(), v.to_string()))),
            ("embargoed.csv", some(&rows, as_is)),
            ("unnamed.csv", some(&rows, as_is)),
            ("members.csv", "member,person\nada,ada\nbob,bob\n".to_owned()),
            ("policy.toml", POLICY.to_owned()),
        ] {
            lake.write(file, &text)?;
        }
        lake.write("lacus.toml", &lake_file())?;
        lake.write("store/open/fine.csv", "id\n1\n")?;
        lake.write("store/closed/secret.csv", "id,name\n1,SECRET\n")?;
        Ok(lake)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, file: &str, text: &str) -> TestResult {
        let file = self.folder().join(file);
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        Ok(std::fs::write(file, text)?)
    }

    pub(crate) fn config(&self) -> TestResult<Config> {
        Ok(Config::load(self.folder())?)
    }

    pub(crate) fn engine(&self) -> TestResult<Engine> {
        Ok(self.config()?.engine()?)
    }

    /// Puts another policy in the place of this one.
    pub(crate) fn repolicy(&self, change: impl FnOnce(&str) -> String) -> TestResult {
        let file = self.folder().join("policy.toml");
        Ok(std::fs::write(&file, change(&std::fs::read_to_string(&file)?))?)
    }
}
