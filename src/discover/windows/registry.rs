//! Registry files, as regedit and `reg export` write them.

use std::collections::BTreeMap;

/// Keys with their values, of one or several files. Names of both are compared without case.
#[derive(Debug, Default)]
pub(super) struct Registry {
    keys: BTreeMap<String, Values>,
}

/// The values of a key by name.
type Values = BTreeMap<String, Value>;

/// A value with its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) data: Data,
    /// Number of the file.
    pub(super) file: usize,
}

/// The data of a value, by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// `REG_SZ`, `REG_EXPAND_SZ`.
    Text(String),
    /// `REG_MULTI_SZ`.
    List(Vec<String>),
    /// `REG_DWORD`.
    Number(u32),
    /// `REG_BINARY` and every other type.
    Bytes(Vec<u8>),
}

/// What is wrong with a file, and in which line. It repeats nothing of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// The first lines that registry files have: that of today, in which texts are UTF-16, and that of Windows 9x and NT 4.
const HEADERS: [(&str, bool); 2] = [("Windows Registry Editor Version 5.00", true), ("REGEDIT4", false)];

/// Whether a text begins as a registry file.
pub(super) fn is_registry(text: &str) -> bool {
    let first = text.trim_start();
    HEADERS.iter().any(|(header, _)| first.starts_with(header))
}

impl Registry {
    /// Adds a file. What is said again replaces what was said before.
    pub(super) fn add(&mut self, file: usize, text: &str) -> Result<(), Malformed> {
        let mut cursor = Cursor { rest: text, line: 1 };
        cursor.skip_blank();
        let (line, header) = (cursor.line, cursor.take_line().trim_end());
        let wide = HEADERS.iter().find(|(known, _)| *known == header).map(|(_, wide)| *wide);
        let wide = wide.ok_or(Malformed { line, problem: "the first line is that of no registry file" })?;
        // Taken out while it is read, as a long path is not to be compared once for each value.
        let mut current: Option<(String, Values)> = None;
        loop {
            cursor.skip_blank();
            if cursor.rest.is_empty() || cursor.rest.starts_with('[') {
                self.keys.extend(current.take());
            }
            if cursor.rest.is_empty() {
                return Ok(());
            }
            if cursor.eat("[") {
                current = self.enter(&mut cursor)?;
                continue;
            }
            let Some((_, values)) = &mut current else {
                return Err(cursor.error("a value stands below no key; keys are written [HKEY_…\\…]"));
            };
            let name = if cursor.eat("@") { String::new() } else { cursor.name()?.to_lowercase() };
            cursor.skip_spaces();
            if !cursor.eat("=") {
                return Err(cursor.error("`=` is missing behind the name of a value"));
            }
            cursor.skip_spaces();
            let data = cursor.data(wide)?;
            let line = cursor.line;
            if !matches!(cursor.take_line().trim_start().chars().next(), None | Some(';')) {
                return Err(Malformed { line, problem: "something follows the data of a value" });
            }
            match data {
                Some(data) => values.insert(name, Value { data, file }),
                None => values.remove(&name),
            };
        }
    }

    /// The key that begins here; `None`: it is one that is deleted.
    fn enter(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<(String, Values)>, Malformed> {
        let error = cursor.error("a key is written [HKEY_…\\…] on a line of its own");
        let path = cursor.take_line().trim_end().strip_suffix(']').ok_or(error)?;
        let Some(deleted) = path.strip_prefix('-').map(folded) else {
            let key = folded(path);
            let values = self.keys.remove(&key).unwrap_or_default();
            return Ok(Some((key, values)));
        };
        let below = format!("{deleted}\\");
        self.keys.remove(&deleted);
        while let Some((key, _)) = self.keys.range(below.clone()..).next().filter(|(key, _)| key.starts_with(&below)) {
            let key = key.clone();
            self.keys.remove(&key);
        }
        Ok(None)
    }

    /// Whether there is this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(&folded(key))
    }

    /// The value of this name below this key.
    pub(super) fn value(&self, key: &str, name: &str) -> Option<&Value> {
        self.keys.get(&folded(key))?.get(&name.to_lowercase())
    }
}

/// A key's path without case and with the short names of the roots written out.
fn folded(path: &str) -> String {
    let path = path.trim().trim_end_matches('\\').to_lowercase();
    let (root, rest) = path.split_once('\\').map_or((path.as_str(), None), |(root, rest)| (root, Some(rest)));
    let root = match root {
        "hku" => "hkey_users",
        "hklm" => "hkey_local_machine",
        "hkcu" => "hkey_current_user",
        other => other,
    };
    rest.map_or_else(|| root.to_owned(), |rest| format!("{root}\\{rest}"))
}

/// What is left of a file.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, problem: &'static str) -> Malformed {
        Malformed { line: self.line, problem }
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// The rest of the line without its end.
    fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.line += usize::from(line.len() < self.rest.len());
        self.rest = rest;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Skips empty lines, comments, and spaces at the beginning of a line.
    fn skip_blank(&mut self) {
        loop {
            self.skip_spaces();
            if !self.rest.starts_with(['\r', '\n', ';']) {
                return;
            }
            self.take_line();
        }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        if !self.eat("\"") {
            return Err(self.error("a value is written \"NAME\"=DATA"));
        }
        let line = self.line;
        let name = self.quoted()?;
        if self.line != line {
            return Err(Malformed { line, problem: "the name of a value is not closed by a quotation mark" });
        }
        Ok(name)
    }

    /// Text up to the quotation mark that closes it, which may stand lines below: regedit writes line ends as they are.
    fn quoted(&mut self) -> Result<String, Malformed> {
        let unclosed = self.error("a quotation mark is not closed");
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' if self.rest[at + 1..].starts_with(['\\', '"']) => {
                    text.extend(chars.next().map(|(_, escaped)| escaped));
                }
                _ => {
                    self.line += usize::from(c == '\n');
                    text.push(c);
                }
            }
        }
        Err(unclosed)
    }

    /// The data of a value; `None`: `-`, which deletes it.
    fn data(&mut self, wide: bool) -> Result<Option<Data>, Malformed> {
        if self.eat("\"") {
            return self.quoted().map(Data::Text).map(Some);
        }
        if self.eat("-") {
            return Ok(None);
        }
        let unknown = self.error("data is written \"TEXT\", dword:HEX, hex:AA,BB, hex(N):AA,BB or -");
        let (kind, rest) = self.rest.split_once(':').ok_or(unknown)?;
        let kind = kind.to_ascii_lowercase();
        let number = kind.strip_prefix("hex(").and_then(|kind| kind.strip_suffix(')'));
        let known = kind == "dword" || kind == "hex" || number.is_some_and(|n| u32::from_str_radix(n, 16).is_ok());
        if !known {
            return Err(unknown);
        }
        self.rest = rest;
        if kind == "dword" {
            return self.dword().map(Data::Number).map(Some);
        }
        let bytes = self.hex()?;
        Ok(Some(match number {
            // REG_SZ, REG_EXPAND_SZ, REG_DWORD, REG_MULTI_SZ (winnt.h).
            Some("1" | "2") => Data::Text(texts(&bytes, wide).into_iter().next().unwrap_or_default()),
            Some("7") => Data::List(texts(&bytes, wide)),
            Some("4") => match bytes[..] {
                [a, b, c, d] => Data::Number(u32::from_le_bytes([a, b, c, d])),
                _ => Data::Bytes(bytes),
            },
            _ => Data::Bytes(bytes),
        }))
    }

    fn dword(&mut self) -> Result<u32, Malformed> {
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let number = Some(number).filter(|n| n.len() <= 8).and_then(|n| u32::from_str_radix(n, 16).ok());
        number.ok_or(self.error("dword: takes 1 to 8 hexadecimal digits"))
    }

    /// Bytes by two digits, separated by commas; a backslash at the end of a line continues on the next.
    fn hex(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Vec::new();
        loop {
            self.skip_spaces();
            if self.eat("\\") {
                if !self.take_line().trim().is_empty() {
                    return Err(self.error("a backslash continues at the end of a line only"));
                }
                continue;
            }
            if self.rest.is_empty() || self.rest.starts_with(['\r', '\n', ';']) {
                return Ok(bytes);
            }
            let digits = self.rest.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
            let (byte, rest) = self.rest.split_at(digits);
            let byte = u8::from_str_radix(byte, 16).map_err(|_| self.error("hex: takes bytes of two digits each"))?;
            bytes.push(byte);
            self.rest = rest;
            self.skip_spaces();
            if !self.eat(",") && !self.rest.is_empty() && !self.rest.starts_with(['\r', '\n', ';', '\\']) {
                return Err(self.error("hex: takes bytes of two digits each, separated by commas"));
            }
        }
    }
}

/// Texts that end in NUL each, and the list as a whole in another.
fn texts(bytes: &[u8], wide: bool) -> Vec<String> {
    let text = if wide {
        let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    text.split('\0').take_while(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "Windows Registry Editor Version 5.00\r\n\r\n";

    fn registry(text: &str) -> Registry {
        let mut registry = Registry::default();
        registry.add(0, text).unwrap();
        registry
    }

    fn data(value: &str) -> Data {
        let all = registry(&format!("{HEADER}[HKEY_USERS\\K]\r\n\"v\"={value}\r\n"));
        all.value("HKU\\k", "V").unwrap().data.clone()
    }

    fn error(text: &str) -> Malformed {
        Registry::default().add(0, text).unwrap_err()
    }

    #[test]
    fn every_form_of_data_is_read() {
        let text = |text: &str| Data::Text(text.to_owned());
        assert_eq!(data("\"a \\\"b\\\" c:\\\\d\""), text("a \"b\" c:\\d"));
        assert_eq!(data("\"two\r\nlines\" ; a comment"), text("two\r\nlines"));
        assert_eq!(data("dword:0000000A"), Data::Number(10));
        assert_eq!(data("hex(4):01,00,00,00"), Data::Number(1));
        assert_eq!(data("hex:"), Data::Bytes(Vec::new()));
        assert_eq!(data("hex:46,00,\\\r\n  00,00,\\\r\n  ff"), Data::Bytes(vec![0x46, 0, 0, 0, 0xff]));
        assert_eq!(data("hex(2):70,00,3a,00,31,00,00,00"), text("p:1"));
        assert_eq!(data("hex(7):61,00,00,00,62,00,00,00,00,00"), Data::List(vec!["a".into(), "b".into()]));
        let old = registry("REGEDIT4\n[HKLM\\K]\n@=hex(2):70,3a,31,00\n");
        assert_eq!(old.value("HKEY_LOCAL_MACHINE\\k", "").unwrap().data, text("p:1"));
    }

    #[test]
    fn the_last_word_counts_and_a_minus_deletes() {
        let mut all = registry(&format!(
            "{HEADER}; made by hand\r\n[hklm\\A]\r\n\"x\"=dword:1\r\n\"X\"=dword:2\r\n\"y\"=dword:3\r\n\"y\"=-\r\n[HKLM\\A\\B]\r\n\"z\"=dword:4"
        ));
        assert_eq!(all.value("HKLM\\A", "x").unwrap().data, Data::Number(2));
        assert!(all.value("HKLM\\A", "y").is_none() && all.has("hklm\\a\\b\\"));
        all.add(1, "REGEDIT4\n[HKLM\\A]\n\"x\"=dword:9\n[-HKLM\\A\\B]\n").unwrap();
        assert_eq!(all.value("HKLM\\A", "x").unwrap(), &Value { data: Data::Number(9), file: 1 });
        assert!(!all.has("HKLM\\A\\B") && all.has("HKLM\\A"));
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        for (body, line, part) in [
            ("\"x\"=dword:1", 3, "below no key"),
            ("[HKLM\\A", 3, "[HKEY_…"),
            ("[HKLM\\A]\r\nx=1", 4, "\"NAME\"=DATA"),
            ("[HKLM\\A]\r\n\"x=1\r\n", 4, "not closed"),
            ("[HKLM\\A]\r\n\"x\" 1\r\n", 4, "`=` is missing"),
            ("[HKLM\\A]\r\n\r\n\"x\"=\"TOPSECRET\r\n\r\n", 5, "not closed"),
            ("[HKLM\\A]\r\n\"x\"=dword:123456789\r\n", 4, "1 to 8"),
            ("[HKLM\\A]\r\n\"x\"=dword:xyz\r\n", 4, "1 to 8"),
            ("[HKLM\\A]\r\n\"x\"=word:1\r\n", 4, "data is written"),
            ("[HKLM\\A]\r\n\"x\"=hex(zz):1\r\n", 4, "data is written"),
            ("[HKLM\\A]\r\n\"x\"=hex:00,\\\r\n  0g\r\n", 5, "separated by commas"),
            ("[HKLM\\A]\r\n\"x\"=hex:00 11\r\n", 4, "separated by commas"),
            ("[HKLM\\A]\r\n\"x\"=hex:,\r\n", 4, "two digits"),
            ("[HKLM\\A]\r\n\"x\"=\"a\" b\r\n", 4, "follows the data"),
        ] {
            let got = error(&format!("{HEADER}{body}"));
            assert!(got.line == line && got.problem.contains(part), "{body}: {got:?}");
        }
        assert_eq!(error("[HKLM\\A]\n").line, 1);
        assert!(is_registry("\r\nREGEDIT4") && !is_registry("WinHTTP"));
    }

    fn written(data: &Data) -> String {
        match data {
            Data::Text(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Data::Number(number) => format!("dword:{number:08x}"),
            Data::Bytes(bytes) => format!("hex:{}", hex(bytes)),
            Data::List(list) => {
                let text: String = list.iter().map(|text| format!("{text}\0")).chain(["\0".to_owned()]).collect();
                let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                format!("hex(7):{}", hex(&bytes))
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        let lines: Vec<String> = bytes
            .chunks(7)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(","))
            .collect();
        lines.join(",\\\r\n  ")
    }

    fn any_data() -> impl Strategy<Value = Data> {
        prop_oneof![
            "[\\PC\n]{0,30}".prop_map(Data::Text),
            any::<u32>().prop_map(Data::Number),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Data::Bytes),
            proptest::collection::vec("\\PC{1,9}", 0..4).prop_map(Data::List),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::btree_map("[a-z\"\\\\;= ]{1,9}", any_data(), 0..6)) {
            let mut text = format!("{HEADER}[HKEY_USERS\\S-1-5-18\\Some Key]\r\n");
            for (name, data) in &values {
                let name = name.replace('\\', "\\\\").replace('"', "\\\"");
                text.push_str(&["\"", &name, "\"=", &written(data), "\r\n"].concat());
            }
            let all = registry(&text);
            for (name, data) in &values {
                prop_assert_eq!(&all.value("hku\\s-1-5-18\\some key", name).unwrap().data, data);
            }
        }

        #[test]
        fn reading_never_panics(text in "(\\[|\\]|\"|=|@|-|;|\\\\|\n|\r\n|hex|dword:|hex\\(7\\):|0a|,|[a-zä ]){0,60}") {
            let _ = Registry::default().add(0, &format!("{HEADER}[HKLM\\A]\r\n{text}"));
            let _ = Registry::default().add(0, &text);
        }
    }
}
