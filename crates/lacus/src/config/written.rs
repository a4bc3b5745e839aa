//! Every option of the lake file, declared once: parsing, defaults and the reference come from here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One option of the lake file, as the reference documents it.
#[derive(Debug, Clone, Copy)]
pub struct OptionDoc {
    /// The table of the lake file that it stands in, such as `[store.NAME]`.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// What holds when the key isn't given.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Declares a table of the lake file: each key with its type, its default in words and its documentation.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident in $section:literal { $(#[doc = $doc:literal] $key:ident: $kind:ty = $default:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(#[doc = $doc] pub(crate) $key: $kind,)*
        }

        impl $name {
            /// The options of this table for the reference.
            pub(crate) const OPTIONS: &'static [OptionDoc] =
                &[$(OptionDoc { section: $section, key: stringify!($key), default: $default, doc: $doc },)*];
        }
    };
}

section! {
    /// The lake itself.
    LakeSection in "[lake]" {
        /// The name of the lake, which is the catalog of its tables.
        name: Option<String> = "`lake`",
        /// The folder for what Lacus keeps: spilled data, indices, and the cache of remote stores.
        state: Option<String> = "`.lacus` beside the lake file",
        /// The store that tables are made in (in its folder `tables`), and that `COPY ... TO` writes to when its target names none; it must be `writable`.
        write_to: Option<String> = "none",
        /// What becomes of a query that brings numbers of different units together, metres and kelvins in a sum: `warn` answers with a notice, `strict` refuses. A session may choose: `SET lacus.units = 'strict'`.
        units: Option<String> = "`warn`",
    }
}

section! {
    /// What queries may use of the machine.
    LimitsSection in "[limits]" {
        /// Memory that all queries together may hold in sorts, aggregations and joins: a size, or a share of the machine such as `50%`.
        memory: Option<String> = "`60%`",
        /// The part of `memory` that keeps decoded columns of Parquet files for later queries, from their second read: `2 GiB`, `20%`.
        columns: Option<String> = "none",
        /// Space for data that operators spill when memory runs out.
        spill: Option<String> = "`100 GiB`",
        /// How long one query may take: `90s`, `10m`, `2h`.
        deadline: Option<String> = "`1h`",
        /// Memory that one query may hold: a size, or a share of the machine.
        query_memory: Option<String> = "all of `memory`",
        /// How many queries may run at once; those behind them wait.
        queries: Option<usize> = "`64`",
        /// How many queries may wait; those behind them are refused.
        queue: Option<usize> = "`1000`",
    }
}

section! {
    /// What is kept of remote stores on local disk.
    CacheSection in "[cache]" {
        /// How many bytes of what is read from remote stores are kept on local disk: `10 GiB`. Without it nothing is kept.
        disk: Option<String> = "none",
        /// The folder for it. One process at a time uses it.
        folder: Option<String> = "`cache` in the `state` folder",
    }
}

section! {
    /// What is recorded of who asks what.
    AuditSection in "[audit]" {
        /// The file that each query and each failed login is recorded in, a line of JSON each; made when there is none. Without it nothing is recorded.
        file: Option<String> = "none",
        /// What happens while nothing can be written to it: queries are refused (`refuse`), or run with a warning to who reads them (`warn`).
        full: Option<String> = "`refuse`",
    }
}

section! {
    /// What is kept of what answers were computed from.
    ProvenanceSection in "[provenance]" {
        /// The folder in which the record of each answer is kept, a file a day; made when there is none. Without it the last thousand are remembered for as long as the process.
        folder: Option<String> = "none",
        /// How long they are kept.
        keep: Option<String> = "`90d`",
    }
}

section! {
    /// Who may do what.
    PolicySection in "[policy]" {
        /// The file of rules: `docs/access.md` says what it holds. Everybody but the owner may do what it allows, and nothing else. It is read again when it changes. Without it whoever may call may do everything.
        file: Option<String> = "none",
    }
}

section! {
    /// How queries are planned.
    OptimizerSection in "[optimizer]" {
        /// Rules of the optimizer to switch off: `semi_join_below`, `keys_into_aggregate`, `shared_subplans`, `join_order`, `build_side`, `decimal_words`, `conjuncts`; of sites `whole_groups`, `split_aggregate`, `split_top_k`, `site_queries`.
        off: Vec<String> = "none",
    }
}

section! {
    /// The server.
    ServeSection in "[serve]" {
        /// The address on which `lacus serve` listens. Beyond this machine only with `certificate` and a `[user.NAME]`, an `[issuer.NAME]` or `[certificates]`.
        listen: Option<String> = "`127.0.0.1:50051`",
        /// Whether who doesn't say who it is may call beside users, as the principal `anonymous`. Where nobody is named, whoever reaches the server is it.
        anonymous: Option<bool> = "`false`",
        /// The file of keys that `lacus keys` gives out. It is read again when it changes.
        keys: Option<String> = "none",
        /// The file of a certificate chain, in PEM: the address is reached by TLS then. It is read again when it changes.
        certificate: Option<String> = "none",
        /// The file of the key of the certificate, in PEM.
        key: Option<String> = "none",
        /// The path of a socket in the file system to listen on, too. Only the user of the server can open it.
        socket: Option<String> = "none",
        /// An address that tells of the server over HTTP: `/metrics` for Prometheus, `/health`, `/ready`. Only loopback addresses.
        http: Option<String> = "none",
        /// The collector that traces are sent to, by OTLP over HTTP: `http://127.0.0.1:4318`.
        otlp: Option<String> = "`OTEL_EXPORTER_OTLP_ENDPOINT`",
    }
}

section! {
    /// The door of agents, which speak the Model Context Protocol: `docs/agents.md`. What they may ask for is decided here; what an agent says can only be less.
    McpSection in "[mcp]" {
        /// The address on which `lacus serve` answers agents over HTTP, at `/mcp`: `127.0.0.1:50052`. Beyond this machine as for `listen` under [serve].
        listen: Option<String> = "none",
        /// The URL by which agents know the server, where it is another than its address: `https://lacus.lab.example/mcp`.
        url: Option<String> = "the address",
        /// Pages that may ask from a browser: `["https://chat.lab.example:443"]`.
        origins: Vec<String> = "none",
        /// What the tokens of issuers must be for, to ask here: `["lacus:read"]`. Clients are told to get tokens for it.
        scopes: Vec<String> = "none",
        /// Rows of one page of an answer.
        rows: Option<usize> = "`200`",
        /// Characters of one page of an answer.
        text: Option<usize> = "`25000`",
        /// Characters of one value; what is longer is cut, and said to be.
        cell: Option<usize> = "`500`",
        /// Rows that are kept of an answer, to be read page by page.
        kept_rows: Option<usize> = "`10000`",
        /// How long an answer is kept.
        kept_for: Option<String> = "`15m`",
        /// How long one call may take.
        deadline: Option<String> = "`60s`",
        /// How much one query may read: what its plan tells is refused before it runs, else it ends when it has.
        scan: Option<String> = "`100 GiB`",
        /// How many files one query may read.
        files: Option<u64> = "`10000`",
        /// How many requests one query may send to sites and databases.
        remote_calls: Option<usize> = "`32`",
    }
}

section! {
    /// A named place for bytes.
    StoreSection in "[store.NAME]" {
        /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `https://host/folder` (WebDAV or pages), `davs://host/folder` (WebDAV), `sftp://host/folder`, or the path of a folder (NFS and Lustre are folders).
        url: Option<String> = "required",
        /// The server of S3, Google or Azure, if it is another: `https://s3.lab.example`.
        endpoint: Option<String> = "that of the provider",
        /// The region of the bucket (S3).
        region: Option<String> = "`us-east-1`, or `AWS_REGION`",
        /// The storage account (Azure).
        account: Option<String> = "`AZURE_STORAGE_ACCOUNT_NAME`",
        /// The user on the other machine (SFTP).
        user: Option<String> = "as `ssh` says",
        /// Who asks: `env`, `env:PREFIX`, `profile:NAME`, `file:PATH`, `web-identity` or `anonymous`; `docs/stores.md` says what each reads.
        credentials: Option<String> = "`env`; `anonymous` for web servers",
        /// The access key itself, instead of `credentials`; write `${NAME}` to take it from the environment.
        access_key_id: Option<String> = "none",
        /// The secret of the access key; write `${NAME}` to take it from the environment.
        secret_access_key: Option<String> = "none",
        /// The token of a temporary key; write `${NAME}` to take it from the environment.
        session_token: Option<String> = "none",
        /// Whether the bucket stands in the path of a request rather than in the host name.
        path_style: Option<bool> = "true with `endpoint`, else false",
        /// Whether who asks pays for the requests, as some public buckets want it (S3).
        requester_pays: Option<bool> = "`false`",
        /// How a web server lists its folders: `webdav` or `page`.
        listing: Option<String> = "what the server knows",
        /// A file of PEM certificates to trust beside those of the system.
        ca: Option<String> = "none",
        /// The proxy: `http://proxy.lab.example:3128`.
        proxy: Option<String> = "`HTTPS_PROXY`, `NO_PROXY`",
        /// How long one request may take before it is tried again or given up.
        timeout: Option<String> = "`30s`",
        /// How often a request is tried again after 429, 5xx, a reset or a truncated answer.
        retries: Option<usize> = "`6`",
        /// Whether `COPY ... TO 'NAME:...'` and tables may be written into it. COPY never overwrites.
        writable: Option<bool> = "`false`",
        /// How long what it told of its objects is taken for true: `60s`. A new or changed object is seen later by so much, or after REFRESH.
        listing_ttl: Option<String> = "none: every query asks",
        /// Whether what is read of it may be kept on local disk, where the lake says `disk` under [cache]. Folders never are.
        cache: Option<bool> = "`true`",
    }
}

section! {
    /// A table.
    DatasetSection in "[dataset.NAME]" {
        /// Where it lies: `store:path`, a URL or a path; `*` stays within a folder, `**` reaches below.
        path: Option<String> = "required, but for what is spread over `sites`",
        /// The sites of which each has a part of it: `["ornl", "anl"]`. It is one table then, of the columns that they have by their names.
        sites: Option<Vec<String>> = "none",
        /// Of a site that others have the same part, in whose place they are asked when it can't be reached: `replicas = { ornl = ["nersc"] }`.
        replicas: BTreeMap<String, Vec<String>> = "none",
        /// What it is called there, `SCHEMA.TABLE`.
        table: Option<String> = "`main.` and its name here",
        /// A column to add, which says of each row at which site it is.
        site_column: Option<String> = "none",
        /// `parquet`, `csv`, `tsv`, `json` (lines), `arrow`, `avro`, `orc`, or a format of arrays: `netcdf`, `hdf5`, `zarr`.
        format: Option<String> = "by the endings of the files",
        /// Options of the format. CSV, TSV and JSON: `compression` (else the ending says it). CSV and TSV: `header`, `delimiter`, `quote`, `escape`, `comment`, `newlines_in_values`, `infer_rows`.
        options: BTreeMap<String, toml::Value> = "none",
        /// The columns that stand in the paths (`year=2024/`); an empty list for none.
        partitions: Option<Vec<String>> = "found in the paths",
        /// One sentence on what it holds.
        description: Option<String> = "none",
        /// The licence of the data, as an SPDX expression where there is one.
        license: Option<String> = "none",
        /// The DOI by which the data is cited.
        doi: Option<String> = "none",
        /// Whom to ask.
        contact: Option<String> = "none",
        /// How far it may be given to others: `open`, `embargoed` or `controlled`. A policy allows what is not open by name alone.
        classification: Option<String> = "none",
        /// The instant at which what is embargoed becomes open: `2027-03-01`, or `2027-03-01T12:00:00Z`.
        embargo_until: Option<String> = "none; needed with `embargoed`",
        /// What single columns mean: `[dataset.NAME.columns.COLUMN]`.
        columns: BTreeMap<String, ColumnSection> = "none",
        /// The columns whose values together are of one row alone, told to tools that ask. Nobody checks it.
        primary_key: Option<Vec<String>> = "none",
        /// The columns that refer to other datasets: `[dataset.NAME.foreign_keys.KEY]`.
        foreign_keys: BTreeMap<String, ForeignKeySection> = "none",
    }
}

section! {
    /// Columns that refer to the rows of another dataset, told to tools that ask.
    ForeignKeySection in "[dataset.NAME.foreign_keys.KEY]" {
        /// The columns of this dataset.
        columns: Option<Vec<String>> = "required",
        /// The dataset that they refer to.
        references: Option<String> = "required",
        /// The columns there, in the same order.
        referenced: Option<Vec<String>> = "its primary key",
    }
}

section! {
    /// One column of a dataset.
    ColumnSection in "[dataset.NAME.columns.COLUMN]" {
        /// What the column means.
        description: Option<String> = "none",
        /// The unit, in the notation of UDUNITS.
        unit: Option<String> = "none",
    }
}

section! {
    /// What this lake calls itself to other sites when it asks on behalf of its users.
    FederationSection in "[federation]" {
        /// Its name: `https://hub.lab.example`, to the letter what sites write as `url` under [issuer.NAME]. Nobody looks there.
        name: Option<String> = "required with `key`",
        /// The file of its private key: Ed25519, in PEM. `lacus site-key` makes it, and prints what sites need to believe it.
        key: Option<String> = "none",
        /// How long a token of it holds, and with it what a site sends: a result that takes longer ends.
        lifetime: Option<String> = "`10m`",
        /// What becomes of a query over a dataset with `sites` when a part is nowhere to be had: `fail`, or `partial`, an answer without it and a notice that says so.
        on_site_failure: Option<String> = "`fail`",
    }
}

section! {
    /// Another server of Flight SQL, whose tables are queried where they are: `SELECT ... FROM NAME.main.shots`.
    SiteSection in "[site.NAME]" {
        /// Its address: `grpc+tls://lab.example:50051?ca=FILE`, with `certificate=FILE&key=FILE` if it knows the lake by a certificate.
        url: Option<String> = "required",
        /// The token that is brought: `${LACUS_ORNL_TOKEN}`. It is for the owner of the lake alone.
        token: Option<String> = "that of `lacus login`, if there is one for the address",
        /// What it is called in tokens by which this lake says on whose behalf it asks (`aud`); needs [federation]. Without it the owner alone may ask.
        audience: Option<String> = "none",
        /// How long it may take to be reached, to tell what a table is, and to plan what it is asked.
        timeout: Option<String> = "`30s`",
        /// How long what it told of a table is taken for true. One that has changed since fails the next query, which is told what it has now.
        schema_ttl: Option<String> = "`60s`",
    }
}

section! {
    /// A database, whose tables are queried where they are: `SELECT ... FROM NAME.public.runs`.
    DatabaseSection in "[database.NAME]" {
        /// Its address: `postgresql://reader@db.lab.example/logbook`, `mysql://reader@db.lab.example/logbook` (MariaDB, too) or `sqlite:logbook.db`. Beyond this machine it is reached by TLS, and its certificate verified; `?sslrootcert=FILE` names another authority, `?sslmode=disable` does without.
        url: Option<String> = "required",
        /// The password of the user: `${LOGBOOK_PASSWORD}`.
        password: Option<String> = "none",
        /// How long it may take to be reached, and to plan what it is asked.
        timeout: Option<String> = "`30s`",
        /// How long what it told of a table is taken for true.
        schema_ttl: Option<String> = "`60s`",
        /// How many statements it is asked at once; more wait.
        connections: Option<usize> = "`8`",
    }
}

section! {
    /// A user of the server.
    UserSection in "[user.NAME]" {
        /// The hash of the password by Argon2id, as `lacus hash-password` makes it.
        password: Option<String> = "required",
    }
}

section! {
    /// An identity provider whose tokens are believed.
    IssuerSection in "[issuer.NAME]" {
        /// What it calls itself, to the letter, which is the claim `iss` of its tokens; `https`, or an address of this machine. It says there where its keys are.
        url: Option<String> = "required",
        /// What this server is called in its tokens: one of these must be in the claim `aud`.
        audience: Vec<String> = "required",
        /// What its tokens may be signed by: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`.
        algorithms: Vec<String> = "all of these",
        /// The claim that names the user.
        user: Option<String> = "`sub`",
        /// What stands before the names of its users and groups here. It must be written, be it empty, where there are a `[user.NAME]`, `keys` or other issuers: their users could have the same names.
        prefix: Option<String> = "none",
        /// The claims that name groups: lists, or words in one text; those in objects with dots between, such as `realm_access.roles`.
        groups: Option<Vec<String>> = "`groups`, `wlcg.groups`",
        /// What else `current_claim` may ask of its tokens, beside `iss` and `sub`.
        claims: Vec<String> = "none",
        /// Whether its tokens may do what rules say of their scopes, and nothing that rules say of their user and groups.
        limited: Option<bool> = "for tokens with scopes that name places, such as `storage.read:/open`",
        /// The client by which it is asked about tokens that say nothing themselves, as those of Globus (RFC 7662).
        client: Option<String> = "none",
        /// The secret of that client: `${LACUS_ISSUER_SECRET}`.
        secret: Option<String> = "required with `client`",
        /// The authorities that are trusted beside those of the system, in PEM.
        ca: Option<String> = "none",
        /// The file of its public keys, if it isn't asked for them: a set of keys (JWKS), read for each token. Of another Lacus `lacus site-key` prints it.
        keys: Option<String> = "as it says itself",
        /// How long its keys are used when it can't be reached.
        keys_kept: Option<String> = "`24h`",
    }
}

section! {
    /// Clients that prove by a certificate who they are (mutual TLS).
    CertificatesSection in "[certificates]" {
        /// The file of the authorities whose certificates are believed, in PEM. It is read again when it changes.
        ca: Option<String> = "none: clients are asked for no certificate",
        /// The file of the certificates that they withdrew, in PEM: a list of each authority (CRL), none out of date. It is read again when it changes.
        crl: Option<String> = "none",
        /// What in a certificate names the user: `cn`, `dn` (the whole subject, as in RFC 4514), or among the alternative names `email`, `dns` or `uri`.
        user: Option<String> = "`cn`",
        /// What stands before the names of its users here. It must be written, be it empty, where there are a `[user.NAME]`, `keys` or issuers: their users could have the same names.
        prefix: Option<String> = "none",
    }
}

/// A lake file, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LakeFile {
    pub(crate) lake: LakeSection,
    pub(crate) limits: LimitsSection,
    pub(crate) audit: AuditSection,
    pub(crate) provenance: ProvenanceSection,
    pub(crate) policy: PolicySection,
    pub(crate) cache: CacheSection,
    pub(crate) optimizer: OptimizerSection,
    pub(crate) serve: ServeSection,
    pub(crate) mcp: McpSection,
    pub(crate) user: BTreeMap<String, UserSection>,
    pub(crate) issuer: BTreeMap<String, IssuerSection>,
    pub(crate) certificates: CertificatesSection,
    pub(crate) federation: FederationSection,
    pub(crate) site: BTreeMap<String, SiteSection>,
    pub(crate) database: BTreeMap<String, DatabaseSection>,
    pub(crate) store: BTreeMap<String, StoreSection>,
    pub(crate) dataset: BTreeMap<String, DatasetSection>,
}

/// Every option of the lake file, in the order of the reference.
pub fn reference() -> impl Iterator<Item = &'static OptionDoc> {
    [
        LakeSection::OPTIONS,
        StoreSection::OPTIONS,
        DatasetSection::OPTIONS,
        ColumnSection::OPTIONS,
        ForeignKeySection::OPTIONS,
        FederationSection::OPTIONS,
        SiteSection::OPTIONS,
        DatabaseSection::OPTIONS,
        LimitsSection::OPTIONS,
        AuditSection::OPTIONS,
        ProvenanceSection::OPTIONS,
        PolicySection::OPTIONS,
        CacheSection::OPTIONS,
        OptimizerSection::OPTIONS,
        ServeSection::OPTIONS,
        McpSection::OPTIONS,
        UserSection::OPTIONS,
        IssuerSection::OPTIONS,
        CertificatesSection::OPTIONS,
    ]
    .into_iter()
    .flatten()
}
