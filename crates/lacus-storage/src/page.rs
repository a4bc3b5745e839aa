//! The pages that web servers make of folders: nginx, Apache, caddy, THREDDS and many more write one link for each thing below.

use std::collections::BTreeSet;

use html5gum::{Token, Tokenizer};
use percent_encoding::percent_decode_str;

/// What lies directly below a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) folders: BTreeSet<String>,
    pub(crate) files: BTreeSet<String>,
}

/// The links of the page of `folder`, a path such as `/data/`, that lead one step down. Links to other places, to sorted views (`?C=N`)
/// and up are no part of the folder.
pub(crate) fn links(html: &str, folder: &str) -> Links {
    let mut links = Links::default();
    for Ok(token) in Tokenizer::new(html) {
        let Token::StartTag(tag) = token else { continue };
        if tag.name.as_slice() != b"a" {
            continue;
        }
        let href = tag.attributes.get(b"href".as_slice()).map(|value| String::from_utf8_lossy(&value.value).into_owned());
        let Some(href) = href else { continue };
        let href = href.strip_prefix("./").or_else(|| href.strip_prefix(folder)).unwrap_or(&href);
        let (name, is_folder) = href.strip_suffix('/').map_or((href, false), |name| (name, true));
        let leads_elsewhere = name.is_empty() || name == "." || name == ".." || name.contains(['/', '?', '#']) || name.contains("://");
        // `mailto:` and its kind: a name with a colon is written `./a:b` or escaped by those who make pages.
        let is_scheme = name.split_once(':').is_some_and(|(scheme, _)| ["mailto", "javascript", "data", "ftp"].contains(&scheme));
        if leads_elsewhere || is_scheme {
            continue;
        }
        let Ok(name) = percent_decode_str(name).decode_utf8() else { continue };
        if name.contains('/') || name == ".." {
            continue;
        }
        let kind = if is_folder { &mut links.folders } else { &mut links.files };
        kind.insert(name.into_owned());
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_one_step_down_count() {
        let html = r##"<html><a href="../">up</a> <a href="?C=N;O=D">Name</a><A HREF='a%20b.nc'>a</A>
            <a href="sub/">sub/</a> <a href="./c.nc">c</a> <a href="/elsewhere/d.nc">d</a> <a href="/data/g.nc">g</a> <a href="https://other.example/e.nc">e</a>
            <a href="mailto:x@y">m</a> <a href="f&amp;g.nc">f</a><!-- <a href="no.nc"> --><a name="here"> <a href="%2e%2e/">up</a>"##;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let found = Links { folders: names(&["sub"]), files: names(&["a b.nc", "c.nc", "f&g.nc", "g.nc"]) };
        assert_eq!(links(html, "/data/"), found);
        assert_eq!(links("<a href", "/"), Links::default());
    }
}
