//! The bytes of a Python source as text, by the encoding that it declares (PEP 263).

use encoding_rs::{Encoding, UTF_8};

/// How far the declaration is looked for: it stands in one of the first two lines.
const DECLARATION_LINES: usize = 2;

/// The text, with every line ending as `\n`. What cannot be decoded is replaced, never refused: it is
/// to be shown.
pub fn decode(bytes: &[u8]) -> String {
    // A byte order mark wins over a declaration; `decode` sees to it.
    let (text, _, _) = declared(bytes).unwrap_or(UTF_8).decode(bytes);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into_owned() }
}

/// Most lines that a source can have, whatever its encoding and whatever ends a line to Python: no analysis of it
/// tells of more.
pub fn most_lines(bytes: &[u8]) -> usize {
    // \n \v \f \r, three separators of ASCII; NEL as one byte, or the end of two, and the end of U+2028 and U+2029.
    let ends = |byte: &&u8| matches!(byte, 0x0A..=0x0D | 0x1C..=0x1E | 0x85 | 0xA8 | 0xA9);
    bytes.iter().filter(ends).count() + 1
}

fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    for line in bytes.split(|&byte| byte == b'\n').take(DECLARATION_LINES) {
        let start = line.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let line = line.get(start..).filter(|line| line.starts_with(b"#"))?;
        let Some(at) = line.windows(6).position(|word| word == b"coding") else { continue };
        let behind = line.get(at + 6..)?;
        let Some(behind) = behind.strip_prefix(b":").or_else(|| behind.strip_prefix(b"=")) else { continue };
        let name: Vec<u8> = behind
            .iter()
            .copied()
            .skip_while(u8::is_ascii_whitespace)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
            .collect();
        // Python's names have underscores where the web's have dashes, and a dash where it has none.
        let name = String::from_utf8_lossy(&name).to_lowercase().replace('_', "-").replace("latin-", "latin");
        return Encoding::for_label(name.strip_suffix("-unix").unwrap_or(&name).as_bytes());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_declared_encoding_is_used_and_nothing_is_refused() {
        assert_eq!(decode("é\r\nx\ry".as_bytes()), "é\nx\ny");
        assert_eq!(decode(b"# -*- coding: latin-1 -*-\n\xe9"), "# -*- coding: latin-1 -*-\né");
        assert_eq!(
            decode(b"#!python\n# vim: set fileencoding=iso_8859_15 :\n\xa4").chars().last(),
            Some('€')
        );
        assert_eq!(decode(b"\xef\xbb\xbfx"), "x");
        assert_eq!(decode(b"x = 1\n# coding: latin-1\n\xff"), "x = 1\n# coding: latin-1\n\u{FFFD}");
        assert_eq!(decode(b"# coding: klingon\n\xff"), "# coding: klingon\n\u{FFFD}");
    }
}
