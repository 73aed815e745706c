//! A record's line for another folder. [`rewrite`] gives what reading the record, changing its image paths
//! and printing it again gives, at a fifth of the cost: it copies the line, leaves white space out and
//! puts the new paths in. Whatever it would not copy as it is (another order of keys, an escape that is
//! not needed, a number with a point) it leaves to the slow way.

/// The record with each image path as `path` says, printed; `None` where only reading it tells how, or
/// that it is none.
pub(super) fn rewrite(line: &str, path: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    let mut copy = Copy {
        line,
        at: 0,
        out: Vec::with_capacity(line.len() + 64),
        keys: Vec::new(),
    };
    copy.record(&path)?;
    copy.space();
    (copy.at == line.len()).then_some(copy.out)
}

/// JSON deeper than this is left to the slow way, which has a limit of its own.
const MAX_DEPTH: usize = 32;
/// Objects with more keys than this are left to it too: here each is compared with each.
const MAX_KEYS: usize = 32;

struct Copy<'a> {
    line: &'a str,
    at: usize,
    out: Vec<u8>,
    /// Where in `out` the keys of the objects that are open stand.
    keys: Vec<(usize, usize)>,
}

impl Copy<'_> {
    fn record(&mut self, path: &impl Fn(&str) -> String) -> Option<()> {
        self.mark(b'{')?;
        self.key("id")?;
        self.string()?;
        self.mark(b',')?;
        self.key("messages")?;
        self.each(b'[', b']', |copy| copy.message(path))?;
        if self.next()? == b',' {
            self.mark(b',')?;
            self.key("meta")?;
            self.object(0)?;
        }
        self.mark(b'}')
    }

    fn message(&mut self, path: &impl Fn(&str) -> String) -> Option<()> {
        self.mark(b'{')?;
        self.key("role")?;
        self.word(&["user", "assistant", "system"])?;
        self.mark(b',')?;
        self.key("content")?;
        self.each(b'[', b']', |copy| copy.part(path))?;
        self.mark(b'}')
    }

    fn part(&mut self, path: &impl Fn(&str) -> String) -> Option<()> {
        self.mark(b'{')?;
        self.key("type")?;
        let kind = self.word(&["text", "image"])?;
        self.mark(b',')?;
        self.key(kind)?;
        let start = self.out.len();
        self.string()?;
        if kind == "image" {
            let old = &self.out[start + 1..self.out.len() - 1];
            // With an escape in it, it is not the path.
            let old = std::str::from_utf8(old)
                .ok()
                .filter(|old| !old.contains('\\'))?;
            let new = path(old);
            self.out.truncate(start);
            serde_json::to_writer(&mut self.out, &new).ok()?;
        }
        self.mark(b'}')
    }

    /// The items between two marks, none or more.
    fn each(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.mark(open)?;
        if self.next()? == close {
            return self.mark(close);
        }
        loop {
            item(self)?;
            if self.next()? == close {
                return self.mark(close);
            }
            self.mark(b',')?;
        }
    }

    /// An object of any keys, none twice.
    fn object(&mut self, depth: usize) -> Option<()> {
        let first = self.keys.len();
        self.each(b'{', b'}', |copy| {
            let start = copy.out.len();
            copy.string()?;
            let key = &copy.out[start..];
            let mut others = copy.keys[first..].iter();
            if copy.keys.len() - first == MAX_KEYS
                || others.any(|(from, to)| copy.out[*from..*to] == *key)
            {
                return None;
            }
            copy.keys.push((start, copy.out.len()));
            copy.mark(b':')?;
            copy.value(depth + 1)
        })?;
        self.keys.truncate(first);
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.next()? {
            b'"' => self.string(),
            b'{' => self.object(depth),
            b'[' => self.each(b'[', b']', |copy| copy.value(depth + 1)),
            b'-' | b'0'..=b'9' => self.integer(),
            _ => {
                let words = ["null", "true", "false"];
                let word = words
                    .into_iter()
                    .find(|word| self.line[self.at..].starts_with(word))?;
                self.copy(word.len());
                Some(())
            }
        }
    }

    /// An integer that a machine's word holds, and that has only one way to be written.
    fn integer(&mut self) -> Option<()> {
        const MAX_DIGITS: usize = 18;
        let rest = &self.line.as_bytes()[self.at..];
        let sign = usize::from(rest[0] == b'-');
        let digits = rest[sign..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let is_plain = match rest[sign..].get(..digits)? {
            [] => false,
            [b'0', more @ ..] => more.is_empty() && sign == 0,
            more => more.len() <= MAX_DIGITS,
        };
        let end = rest.get(sign + digits);
        if !is_plain || end.is_some_and(|byte| b".eE".contains(byte)) {
            return None;
        }
        self.copy(sign + digits);
        Some(())
    }

    /// A text, and each of its characters as `serde_json` writes it.
    fn string(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        let bytes = self.line.as_bytes();
        // Copied up to here.
        let mut done = self.at;
        let mut at = self.at + 1;
        loop {
            match *bytes.get(at)? {
                b'"' => break,
                b'\\' => match *bytes.get(at + 1)? {
                    b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f' => at += 2,
                    b'u' => {
                        let digits = self.line.get(at + 2..at + 6)?;
                        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                            return None;
                        }
                        let number = u32::from_str_radix(digits, 16).ok()?;
                        // What stands for itself; halves of a pair are left to the slow way.
                        let letter = char::from_u32(number).filter(|letter| *letter >= '\u{80}')?;
                        self.out.extend_from_slice(&bytes[done..at]);
                        self.out
                            .extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                        at += 6;
                        done = at;
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => at += 1,
            }
        }
        at += 1;
        self.out.extend_from_slice(&bytes[done..at]);
        self.at = at;
        Some(())
    }

    /// One of these words as a text.
    fn word(&mut self, words: &[&'static str]) -> Option<&'static str> {
        if self.next()? != b'"' {
            return None;
        }
        let rest = &self.line[self.at + 1..];
        let is_word = |word: &&&str| {
            rest.strip_prefix(**word)
                .is_some_and(|rest| rest.starts_with('"'))
        };
        let word = words.iter().find(is_word)?;
        self.copy(word.len() + 2);
        Some(word)
    }

    fn key(&mut self, key: &'static str) -> Option<()> {
        self.word(&[key])?;
        self.mark(b':')
    }

    fn mark(&mut self, mark: u8) -> Option<()> {
        if self.next()? != mark {
            return None;
        }
        self.copy(1);
        Some(())
    }

    fn copy(&mut self, count: usize) {
        let copied = &self.line.as_bytes()[self.at..self.at + count];
        self.out.extend_from_slice(copied);
        self.at += count;
    }

    /// What comes after white space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.line.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        let bytes = self.line.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jsonl;
    use crate::record::Part;

    fn moved(path: &str) -> String {
        format!("../ä\"\\{path}")
    }

    /// The record read, changed and printed.
    fn slowly(line: &str) -> Option<Vec<u8>> {
        let mut record = jsonl::parse(line, "", 1).ok()?;
        for part in record.messages.iter_mut().flat_map(|m| &mut m.content) {
            if let Part::Image(path) = part {
                *path = moved(path);
            }
        }
        Some(serde_json::to_vec(&record).unwrap())
    }

    fn agrees(line: &str) -> bool {
        let fast = rewrite(line, moved);
        if let Some(fast) = &fast {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(
                Some(text(fast)),
                slowly(line).as_deref().map(text),
                "{line}"
            );
        }
        fast.is_some()
    }

    const LINE: &str = r#"{"id":"a","messages":[{"role":"system","content":[]},{"role":"user","content":[{"type":"image","image":"p/1.png"},{"type":"text","text":"Read \"x\"\n\\."}]},{"role":"assistant","content":[{"type":"text","text":"{}"}]}],"meta":{"document":"d","pages":[1,-2],"k":{"a":null,"b":[true,false,{}]}}}"#;

    #[test]
    fn usual_lines_are_copied_and_odd_ones_left() {
        assert!(agrees(LINE));
        assert!(agrees(&LINE.replace(':', " : ").replace(',', " ,\t")));
        assert!(agrees(r#" {"id":"","messages":[]} "#));
        for (from, to, is_copied) in [
            ("\"a\"", r#""\u00e4\u20ac ü\u0416\b""#, true),
            ("\"a\"", r#""\u0041""#, false),
            ("\"a\"", r#""\ud83d\ude00""#, false),
            ("\"a\"", r#""\ud83d""#, false),
            ("\"a\"", r#""\u+123""#, false),
            ("\"a\"", r#""\u001f""#, false),
            ("\"a\"", r#""\u007f""#, false),
            ("\"a\"", r#""\/""#, false),
            ("\"a\"", "\"\u{1}\"", false),
            ("\"a\"", "\"\u{7f}\u{2028}😀\"", true),
            ("\"a\"", "7", false),
            ("\"id\"", r#""\u0069d""#, false),
            ("p/1.png", r"p\\1.png", false),
            ("p/1.png", r"p\u00e41.png", true),
            ("p/1.png", "", true),
            ("\"k\"", "\"pages\"", false),
            ("\"k\"", r#""p\u0061ges""#, false),
            ("\"a\":null", r#""ä":1,"\u00e4":2"#, false),
            ("\"a\":null", r#""a":1,"A":2"#, true),
            ("-2", "2.0", false),
            ("-2", "1e3", false),
            ("-2", "-0", false),
            ("-2", "01", false),
            ("-2", "-", false),
            ("-2", "123456789012345678", true),
            ("-2", "12345678901234567890123", false),
            ("[1,-2]", "[1,-2,]", false),
            ("[1,-2]", "nulll", false),
            (
                r#""type":"image","image":"p/1.png""#,
                r#""image":"p/1.png","type":"image""#,
                false,
            ),
            (
                r#""type":"image","image""#,
                r#""type":"image","text""#,
                false,
            ),
            (r#""role":"user","#, r#""role":"user","x":1,"#, false),
            ("\"user\"", "\"human\"", false),
            (r#""meta":{"#, r#""more":1,"meta":{"#, false),
            (r#""meta":{"#, r#""meta":null,"x":{"#, false),
        ] {
            assert!(LINE.contains(from));
            assert_eq!(
                agrees(&LINE.replacen(from, to, 1)),
                is_copied,
                "{from} -> {to}"
            );
        }
        let deep = |depth: usize| {
            LINE.replace("-2", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
        };
        assert!(agrees(&deep(20)) && !agrees(&deep(60)) && !agrees(&deep(300)));
        let keys: Vec<String> = (0..100).map(|key| format!("\"x{key}\":1")).collect();
        assert!(!agrees(
            &LINE.replace("\"k\"", &format!("{},\"k\"", keys.join(",")))
        ));
        assert!(!agrees(&LINE[..LINE.len() - 1]) && !agrees(&format!("{LINE}}}")) && !agrees(""));
    }

    proptest! {
        /// Any piece put anywhere into a line: what is copied is what the slow way makes.
        #[test]
        fn what_is_copied_is_what_printing_gives(
            at in 0..LINE.len(),
            cut in 0usize..6,
            with in r#"(\\PC|[{}\[\]",:\\ /0-9a-fntrue.eE+-]|\\u00[0-9a-f]{2}|\\["\\/bfnrtu]|"[a-z]"|, ){0,5}"#,
        ) {
            let end = (at + cut).min(LINE.len());
            agrees(&format!("{}{with}{}", &LINE[..at], &LINE[end..]));
        }

        #[test]
        fn any_text_and_path_is_copied_as_printing_gives_it(text in ".{0,40}", path in ".{0,20}") {
            for ascii in [false, true] {
                let quoted = |text: &str| {
                    let quoted = serde_json::to_string(text).unwrap();
                    let escaped = |c: char| format!("\\u{:04x}", c as u32);
                    match ascii {
                        false => quoted,
                        true => quoted
                            .chars()
                            .map(|c| if c.is_ascii() || c as u32 > 0xffff { c.to_string() } else { escaped(c) })
                            .collect(),
                    }
                };
                let line = LINE.replace("\"a\"", &quoted(&text)).replace("\"p/1.png\"", &quoted(&path));
                let line = line.replace("\"d\"", &quoted(&text));
                agrees(&line);
            }
        }
    }
}
