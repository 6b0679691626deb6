//! A form up to its file: the fields, read piece by piece, and written again.
//!
//! Used by [`form`](super). Plain code over bytes; the file itself never passes here.
//! Source: RFC 7578.

use bytes::{Bytes, BytesMut};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::malformed;

/// The most bytes before the file (S3 allows 20 KB).
pub const MAX_FORM_HEAD: usize = 64 << 10;
/// The most fields.
const MAX_FIELDS: usize = 100;
/// What is replaced by the name of the file.
const FILENAME: &str = "${filename}";
/// Fields that are taken as they are.
const VERBATIM: [&str; 3] = ["policy", "x-amz-signature", "signature"];

/// A form up to its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Names (in lower case) and values, in the order of the form.
    pub fields: Vec<(String, String)>,
    /// The name of the file, without its folders.
    pub file_name: String,
}

impl Form {
    /// The value of a field; of several, the first.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Where the browser is to be sent.
    pub fn redirect(&self) -> Option<&str> {
        self.field("success_action_redirect").or_else(|| self.field("redirect"))
    }

    /// Fills the name of the file in.
    pub fn fill_in(&mut self) {
        for (name, value) in &mut self.fields {
            if !VERBATIM.contains(&name.as_str()) && value.contains(FILENAME) {
                *value = value.replace(FILENAME, &self.file_name);
            }
        }
    }

    /// The form again, up to the first byte of the file.
    pub fn encode(&self, boundary: &str) -> Bytes {
        let mut out = String::new();
        for (name, value) in &self.fields {
            out.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        out.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n"
        ));
        Bytes::from(out)
    }
}

/// The boundary that a content type names.
pub fn boundary(content_type: &str) -> Option<String> {
    let (_, parameters) = content_type.split_once(';')?;
    let (_, value) = parameters_of(parameters).into_iter().find(|(name, _)| name == "boundary")?;
    let fits = (1..=70).contains(&value.len()) && value.bytes().all(|b| (32..127).contains(&b));
    fits.then_some(value)
}

/// `; name=value; name="quoted"`, names in lower case.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name, value));
        rest = after;
    }
    found
}

/// A quoted text up to its end, and what follows. Browsers escape quotes only.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                value.push('"');
                chars.next();
            }
            _ => value.push(c),
        }
    }
    (value, "")
}

/// Reads a form up to its file.
pub struct HeadReader {
    /// `--boundary`.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    begun: bool,
    fields: Vec<(String, String)>,
    total: usize,
}

impl HeadReader {
    /// At the first byte.
    pub fn new(boundary: &str) -> Self {
        let delimiter = [b"--", boundary.as_bytes()].concat();
        HeadReader {
            delimiter,
            buffer: BytesMut::new(),
            begun: false,
            fields: Vec::new(),
            total: 0,
        }
    }

    /// Takes the next bytes; once the file begins, gives the form and the first bytes of the file.
    ///
    /// # Errors
    /// `MalformedPOSTRequest`, or `MaxPostPreDataLengthExceededError` for a head that is too long.
    pub fn push(&mut self, bytes: &[u8]) -> S3Result<Option<(Form, Bytes)>> {
        self.buffer.extend_from_slice(bytes);
        if !self.begun && !self.begin()? {
            return self.check_size();
        }
        while let Some(end) = find(&self.buffer, b"\r\n\r\n") {
            let part = Part::of(&self.buffer[..end])?;
            if part.name == "file" {
                let first = self.buffer.split_off(end + 4).freeze();
                let fields = std::mem::take(&mut self.fields);
                return Ok(Some((Form { fields, file_name: part.file_name() }, first)));
            }
            let mut close = b"\r\n".to_vec();
            close.extend_from_slice(&self.delimiter);
            // the line end behind the headers may be the one before the boundary
            let Some(len) = find(&self.buffer[end + 2..], &close) else { break };
            let behind = end + 2 + len + close.len();
            match self.buffer.get(behind..behind + 2) {
                None => break,
                Some(b"\r\n") => {}
                Some(_) => return Err(malformed()), // the end: there is no file
            }
            let value = self.buffer.get(end + 4..end + 2 + len).unwrap_or_default();
            let value = std::str::from_utf8(value).map_err(|_| malformed())?.to_owned();
            self.fields.push((part.name, value));
            self.total += behind + 2;
            let _ = self.buffer.split_to(behind + 2);
            if self.fields.len() > MAX_FIELDS {
                return Err(malformed());
            }
        }
        self.check_size()
    }

    /// Takes the first boundary, with an empty line before it or not.
    fn begin(&mut self) -> S3Result<bool> {
        let at = if self.buffer.starts_with(b"\r\n") { 2 } else { 0 };
        let line = [self.delimiter.as_slice(), b"\r\n"].concat();
        let seen = &self.buffer[at..];
        if !line.starts_with(&seen[..seen.len().min(line.len())]) && self.buffer[..] != b"\r"[..] {
            return Err(malformed());
        }
        self.begun = seen.len() >= line.len();
        if self.begun {
            let _ = self.buffer.split_to(at + line.len());
        }
        Ok(self.begun)
    }

    fn check_size(&self) -> S3Result<Option<(Form, Bytes)>> {
        if self.total + self.buffer.len() > MAX_FORM_HEAD {
            let text = "Your POST request fields preceding the upload file were too large.";
            return Err(S3Error::with_message(
                S3ErrorCode::MaxPostPreDataLengthExceededError,
                text,
            ));
        }
        Ok(None)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What the headers of a part say.
struct Part {
    name: String,
    file: Option<String>,
}

impl Part {
    fn of(headers: &[u8]) -> S3Result<Self> {
        let text = std::str::from_utf8(headers).map_err(|_| malformed())?;
        let mut lines = text.split("\r\n").filter_map(|line| line.split_once(':'));
        let line = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
        let (kind, parameters) =
            line.and_then(|(_, value)| value.split_once(';')).ok_or_else(malformed)?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(malformed());
        }
        let (mut found, mut file) = (None, None);
        for (name, value) in parameters_of(parameters) {
            match name.as_str() {
                "name" => found = Some(value.to_ascii_lowercase()),
                "filename" => file = Some(value),
                _ => {}
            }
        }
        let plain = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| (33..127).contains(&b) && b != b'"')
        };
        let name = found.filter(plain).ok_or_else(malformed)?;
        Ok(Part { name, file })
    }

    /// Old browsers give the whole path.
    fn file_name(&self) -> String {
        let name = self.file.as_deref().unwrap_or_default();
        name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(boundary: &str, pieces: &[&[u8]]) -> Result<Option<(Form, Vec<u8>)>, String> {
        let mut reader = HeadReader::new(boundary);
        let mut pieces = pieces.iter();
        while let Some(piece) = pieces.next() {
            let found = reader.push(piece).map_err(|e| e.code().as_str().to_owned())?;
            if let Some((form, first)) = found {
                let rest = pieces.flat_map(|piece| piece.iter().copied());
                return Ok(Some((form, first.into_iter().chain(rest).collect())));
            }
        }
        Ok(None)
    }

    fn file(name: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n")
    }

    #[test]
    fn the_name_of_the_file_goes_into_the_fields_without_its_folders() {
        for (given, expected) in [
            ("a.txt", "up/a.txt"),
            ("C:\\\\docs\\a.txt", "up/a.txt"),
            ("/tmp/ä b.txt", "up/ä b.txt"),
            ("say \\\"hi\\\".txt", "up/say \"hi\".txt"),
            ("", "up/"),
        ] {
            let key = "--B\r\ncontent-disposition:form-data;name=Key\r\n\r\nup/${filename}\r\n";
            let text = format!("\r\n{key}{}rest", file(given));
            let (mut form, rest) = read("B", &[text.as_bytes()]).unwrap().unwrap();
            form.fill_in();
            assert_eq!(form.field("key"), Some(expected), "{given}");
            assert_eq!(rest, b"rest");
        }
    }

    #[test]
    fn a_form_that_is_none_is_refused() {
        let without_file =
            "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--B--\r\n";
        let unnamed = "--B\r\nContent-Disposition: form-data\r\n\r\nk\r\n--B--\r\n";
        let no_disposition = "--B\r\nContent-Type: text/plain\r\n\r\nk\r\n--B--\r\n";
        for bad in [without_file, unnamed, no_disposition, "--C\r\n", "garbage", "--B--\r\n"] {
            let got = read("B", &[bad.as_bytes()]);
            assert_eq!(got, Err("MalformedPOSTRequest".to_owned()), "{bad:?}");
        }
        let long = format!("--B\r\nA: {}", "x".repeat(MAX_FORM_HEAD));
        let got = read("B", &[long.as_bytes()]);
        assert_eq!(got, Err("MaxPostPreDataLengthExceededError".to_owned()));
    }

    #[test]
    fn the_boundary_stands_in_the_content_type() {
        let rows = [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data;charset=utf-8; BOUNDARY=\"a b;c\"", Some("a b;c")),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data", None),
        ];
        for (text, expected) in rows {
            assert_eq!(boundary(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again_in_pieces_of_any_size(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,8}", "[ -~\r\n\u{e4}]{0,30}"), 0..6),
            cut in 1_usize..40,
            data in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let fields: Vec<_> = fields.into_iter().filter(|(name, _)| name != "file").collect();
            let form = Form { fields, file_name: "file".into() };
            let boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
            let text = [form.encode(boundary).as_ref(), &data].concat();
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            // a head that ends with the text itself is complete only with its last byte
            prop_assert_eq!(read(boundary, &pieces), Ok(Some((form, data))));
        }
    }
}
