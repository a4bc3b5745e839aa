use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lacus::{CatalogForm, Form};

/// How many rows of a table are shown.
pub(crate) const ROWS: usize = 1000;

/// SQL over science data that stays where it is: buckets, lab folders, files.
#[derive(Debug, Parser)]
#[command(name = "lacus", version, after_help = crate::exit::HELP)]
pub(crate) struct Arguments {
    /// The lake file, or the folder that holds it [default: lacus.toml here or in a folder above; none is needed]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) lake: Option<PathBuf>,
    /// Ask a server instead of opening the lake here: for the shell, `sql`, `verify`, `cite`, `provenance` and `catalog`. grpc+tls://USER@HOST:PORT?ca=FILE for TLS and a user, whose
    /// password is LACUS_PASSWORD; grpc+unix:///PATH for a socket; a token is LACUS_TOKEN
    #[arg(long, global = true, value_name = "grpc://HOST:PORT", conflicts_with = "lake")]
    pub(crate) connect: Option<String>,
    /// What to do [default: open a shell]
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run SQL and print or write the result
    Sql(SqlArguments),
    /// Serve the lake over Arrow Flight SQL
    Serve(ServeArguments),
    /// Answer an agent by standard input and output, in the Model Context Protocol: it reads what the lake names, and nothing else
    Mcp(McpArguments),
    /// Explain what is wrong with the lake file, and print it resolved with secrets masked
    Check(CheckArguments),
    /// Add a dataset to the lake file
    Add(AddArguments),
    /// List the datasets of the lake
    Datasets,
    /// Show the columns of a table, with units and descriptions
    Describe(DescribeArguments),
    /// Keep what is known of a dataset's files beside the lake, so that queries open only those that match
    #[command(subcommand)]
    Index(IndexCommand),
    /// Tell or clear what is kept of remote stores on local disk
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Check what is recorded of who asked what
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Ask again what a record of an answer tells of, and say whether the answer is the same: which file has changed, or is gone
    Verify(RecordArguments),
    /// Print what to write beside an answer: its datasets with DOI, licence and contact, the engine, and by what it is known again
    Cite(RecordArguments),
    /// Print the record of an answer, as it is or in the form of others
    Provenance {
        #[command(flatten)]
        record: RecordArguments,
        /// The form
        #[arg(long, value_name = "FORM", default_value = "record", value_parser = Form::NAMES)]
        form: String,
    },
    /// Tell others what the lake has: its datasets with their columns, units, licence and DOI, in a form that catalogs of data read
    Catalog {
        /// The dataset; all of them when it is not given
        dataset: Option<String>,
        /// The form
        #[arg(long = "as", value_name = "FORM", default_value = "schema.org", value_parser = CatalogForm::NAMES)]
        form: String,
    },
    /// Give out keys by which programs and people call a server, and take them back
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Print the public key by which sites believe what this lake says of who asks, for `keys` under [issuer.NAME] there; where there is no key, make it
    SiteKey,
    /// Get a token for a server at a browser, be it of another device. It is kept, brought to that server alone, and renewed when it ends
    Login(LoginArguments),
    /// Forget the token for a server
    Logout {
        /// The server
        #[arg(value_name = "grpc+tls://HOST:PORT")]
        server: String,
    },
    /// Print the token for a server, for other programs that ask it: a header `authorization: Bearer TOKEN`
    Token {
        /// The server
        #[arg(value_name = "grpc+tls://HOST:PORT")]
        server: String,
    },
    /// Check the file of rules that says who may do what
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Name what the files of a dataset disagree about: units, packing, calendars, types, grids, missing variables, truncated files
    Doctor(DoctorArguments),
    /// Make the hash of a password for `[user.NAME]` of the lake file; the password is the first line of standard input
    HashPassword,
    /// Print what completes this command in a shell, for the shell to read
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(ManArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Open the files that are new or changed, and write what is known of all
    Build(IndexArguments),
    /// Tell how far the index knows the files
    Status(IndexArguments),
    /// Write what is known as references by which fsspec and xarray read the files in place, in the forms of kerchunk
    Export(ExportArguments),
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum CacheCommand {
    /// Tell where it lies, and how much it holds
    Status,
    /// Remove all of it
    Clear,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key, and print it: it is kept nowhere
    Create {
        /// On whose behalf its calls run
        user: String,
        /// A group that the user is in; may be given more than once
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// What it is for, as the rules of the policy name it; may be given more than once [default: all that the user may do]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// For how long it is good: `90d`, `12h` [default: until it is taken back]
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Who holds it, in words
        #[arg(long)]
        note: Option<String>,
    },
    /// List the keys, without their secrets
    List,
    /// Take a key back: its next call is refused
    Revoke {
        /// The id, as `lacus keys list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The server that the token is for
    #[arg(value_name = "grpc+tls://HOST:PORT")]
    pub(crate) server: String,
    /// Who gives tokens: what the identity provider of the server calls itself
    #[arg(long, value_name = "https://HOST")]
    pub(crate) issuer: String,
    /// What it calls this program: a public client that may log in on another device
    #[arg(long, value_name = "ID")]
    pub(crate) client: String,
    /// A scope to ask for; may be given more than once [default: openid offline_access]
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Whom the token is for, where the provider wants to be told (RFC 8707)
    #[arg(long, value_name = "URI")]
    pub(crate) resource: Option<String>,
    /// Whom the token is for, in the word of providers that know no resources
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<String>,
    /// The authorities to trust beside those of the system, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what is wrong with the rules, or what they say of a statement as somebody asks it: allowed or not, by which rule, and the plan
    Check {
        /// The statement, which is not run [default: the rules alone are checked, against the tables of the lake]
        sql: Option<String>,
        /// Who asks
        #[arg(long = "as", value_name = "USER", default_value = "anonymous")]
        user: String,
        /// A group that the token of who asks tells of; may be given more than once
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// A scope of the token of who asks; may be given more than once
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no record was changed, taken out or put in, and tell the hash of the last one, which stands for all of them
    Verify {
        /// The file of records [default: that of the lake file]
        file: Option<PathBuf>,
        /// The hash that was told before: the record must be there still
        #[arg(long, value_name = "HASH")]
        noted: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RecordArguments {
    /// The file of the record, as `lacus sql --provenance` and `result.provenance` give it, or the id of the query; `-` for standard input
    #[arg(value_name = "RECORD")]
    pub(crate) record: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The dataset
    pub(crate) dataset: String,
    /// A `.json` file, or a `.parquet` folder of which readers load what they need
    pub(crate) to: PathBuf,
    /// The dimension along which several files follow one another, such as `time`
    #[arg(long)]
    pub(crate) along: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct IndexArguments {
    /// The datasets [default: all whose files hold arrays]
    pub(crate) datasets: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The dataset
    pub(crate) dataset: String,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Write the pages of all commands into this folder, which is made
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct SqlArguments {
    /// The SQL, one or more statements; read from standard input when neither this nor --file is given
    #[arg(value_name = "SQL", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Read the SQL from a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A value for the next `?` or `$n`: a number, true, false, null, or text
    #[arg(short, long = "param", value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) params: Vec<String>,
    /// The form of the result [default: by the ending of --output, else table]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write to a file what the result was computed from: the datasets, their files and versions, the engine, and a hash of the rows
    #[arg(long, value_name = "FILE")]
    pub(crate) provenance: Option<PathBuf>,
    /// Write the result to a file, which appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Show at most this many rows of a table (0 for all)
    #[arg(long, default_value_t = ROWS)]
    pub(crate) rows: usize,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for reading
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// Arrow IPC: a file with --output, else a stream
    Arrow,
    /// Parquet
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The address to listen on; beyond this machine with a certificate and users [default: of the lake file, else 127.0.0.1:50051]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// A socket in the file system to listen on, which only you can open; alone, nothing listens on an address
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Make a token and print it: only who brings it is answered, as on a login node that others share
    #[arg(long)]
    pub(crate) token: bool,
    /// Listen beyond this machine without certificate or users: anyone reads the lake, and what travels on its way
    #[arg(long)]
    pub(crate) insecure: bool,
    /// An address that tells of the server over HTTP: /metrics, /health, /ready; loopback only [default: of the lake file, else none]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<String>,
    /// An address on which agents are answered over HTTP, in the Model Context Protocol, at /mcp [default: of the lake file, else none]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) mcp: Option<String>,
    /// What is logged on standard error: off, error, warn, info, debug or trace, also as in `info,lacus_storage=debug` [default: LACUS_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    pub(crate) log_format: LogForm,
}

#[derive(Debug, Args)]
pub(crate) struct McpArguments {
    /// On whose behalf the agent asks: what the rules of the lake let this user see [default: you, who own the lake]
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// A group that this user is in; may be given more than once
    #[arg(long = "group", value_name = "GROUP", requires = "user")]
    pub(crate) groups: Vec<String>,
    /// What is logged on standard error, as for `lacus serve`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log: String,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// Words and name=value pairs
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Check the text alone, without opening the datasets
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The name of the dataset
    pub(crate) name: String,
    /// Where it lies: store:path, a URL or a path, possibly with * and **
    pub(crate) location: String,
    /// The format, when the endings of the files don't tell it
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// One sentence on what it holds
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Add it without opening it first
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// A table, or a location in quotes of the shell
    pub(crate) table: String,
}
