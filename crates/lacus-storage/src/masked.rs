/// `text` as it may be written where others read it: the users and the signatures of addresses in it are masked.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| !ends_address(letter)) {
        let length = rest[start..].find(ends_address).unwrap_or(rest.len() - start);
        out.push_str(&rest[..start]);
        mask_word(&rest[start..start + length], &mut out);
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

fn ends_address(letter: char) -> bool {
    letter.is_whitespace() || "'\"`()<>,;".contains(letter)
}

fn mask_word(word: &str, out: &mut String) {
    // Signatures stand in what is asked for, which addresses without a scheme have, too.
    let (place, signature) = match word.split_once('?') {
        Some((place, asked)) if asked.contains('=') => (place, "?***"),
        _ => (word, ""),
    };
    match place.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find('/').unwrap_or(rest.len());
            let host = rest[..authority].rfind('@').map_or(0, |at| at);
            let user = if host > 0 { "***" } else { "" };
            out.extend([scheme, "://", user, &rest[host..]]);
        }
        None => out.push_str(place),
    }
    out.push_str(signature);
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn users_and_signatures_of_addresses_are_masked() {
        let text = "no object `https://me:pw@host/a.csv?X-Amz-Signature=ab%2F&x=1` (file: s3://b/k?, https/h/x?sig=1); is a ? b";
        assert_eq!(masked(text), "no object `https://***@host/a.csv?***` (file: s3://b/k?, https/h/x?***); is a ? b");
        assert_eq!(masked("/a b/ü@c.nc"), "/a b/ü@c.nc");
    }
}
