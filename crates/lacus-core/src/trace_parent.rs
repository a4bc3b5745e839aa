/// Where a caller stands in a trace, as the W3C has it in `traceparent`: version, trace, span, flags.
///
/// ```
/// use lacus_core::TraceParent;
/// let caller = TraceParent::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert!(caller.is_some_and(|caller| caller.span == 0xb7ad6b7169203331 && caller.kept));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: u128,
    /// The work of the caller, a part of it.
    pub span: u64,
    /// Whether the trace is kept; whoever begins it decides.
    pub kept: bool,
}

/// Characters that later versions may take.
const LONGEST: usize = 256;

impl TraceParent {
    /// What a text says; `None` when it says nothing, or what nobody may say.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let is_hex = |part: &str| part.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = parts.as_slice() else { return None };
        let lengths = [version.len(), trace.len(), span.len(), flags.len()] == [2, 32, 16, 2];
        // Later versions may say more, the first may not.
        let known = *version != "ff" && (*version != "00" || rest.is_empty());
        if !lengths || !known || ![version, trace, span, flags].into_iter().all(|part| is_hex(part)) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let kept = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && span != 0).then_some(Self { trace, span, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_as_the_w3c_says() {
        let place = |text: &str| TraceParent::read(text).map(|place| (place.trace, place.span, place.kept));
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let found = Some((0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331, true));
        assert_eq!(place(&format!("00-{trace}-{span}-01")), found);
        assert_eq!(place(&format!("00-{trace}-{span}-00")).map(|place| place.2), Some(false));
        assert_eq!(place(&format!("cc-{trace}-{span}-01-what-the-future-says")), found);
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("cc-{trace}-{span}-01-{}", "x".repeat(1_000)),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-+{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(place(&wrong), None, "{wrong}");
        }
    }
}
