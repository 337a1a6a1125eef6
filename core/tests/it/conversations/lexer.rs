//! Words of a script line, and the values in them.

/// A word: text up to white space, where quoted parts may hold white space.
pub type Word = String;

/// Cuts a line into words. Quotes and escapes stay in the words.
pub fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                word.push(c);
            }
            Some(open) => {
                word.push(c);
                if c == '\\' {
                    word.push(chars.next().ok_or("a line ends in an escape")?);
                } else if c == open {
                    quote = None;
                }
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// `key=value`, where the key is a plain name.
pub fn key_value(word: &str) -> Option<(&str, &str)> {
    let (key, value) = word.split_once('=')?;
    let is_name = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_name.then_some((key, value))
}

/// The bytes of a value: plain text, or `"quoted"`, or `"quoted"*times`.
pub fn text(value: &str) -> Result<Vec<u8>, String> {
    let Some(quote) = value.chars().next().filter(|&c| c == '"' || c == '\'') else {
        return Ok(value.as_bytes().to_vec());
    };
    let end = value
        .rfind(quote)
        .filter(|&end| end > 0)
        .ok_or("a quote is not closed")?;
    let once = unescape(&value[1..end])?;
    let times = match value[end + 1..].strip_prefix('*') {
        Some(times) => times.parse().map_err(|_| format!("not a count: {times}"))?,
        None if end + 1 == value.len() => 1,
        None => return Err(format!("something follows a quote: {value}")),
    };
    Ok(once.repeat(times))
}

/// A number, decimal or 0x hexadecimal.
pub fn number(value: &str) -> Result<u64, String> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| format!("not a number: {value}"))
}

/// A span of time: `15s`, `1500ms`.
pub fn span(value: &str) -> Result<std::time::Duration, String> {
    let (digits, nanos) = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1_000_000),
        (None, Some(digits)) => (digits, 1_000_000_000),
        (None, None) => return Err(format!("not a span of time: {value}")),
    };
    Ok(std::time::Duration::from_nanos(number(digits)? * nanos))
}

/// Bytes written down one by one: hexadecimal pairs, `"text"`, `'text'` with its two-byte length in
/// front, and `[ … ]` with its length in front as a variable byte integer.
pub fn raw(words: &[Word]) -> Result<Vec<u8>, String> {
    let mut open = vec![Vec::new()];
    for word in words {
        let top = open.last_mut().expect("the outermost is never closed");
        match word.as_bytes()[0] {
            b'[' if word == "[" => open.push(Vec::new()),
            b']' if word == "]" => {
                let inner = open.pop().expect("just seen");
                let outer = open.last_mut().ok_or("] without [")?;
                put_varint(outer, inner.len());
                outer.extend(inner);
            }
            b'"' => top.extend(text(word)?),
            b'\'' => {
                let inner = text(word)?;
                let size = u16::try_from(inner.len()).map_err(|_| "a string is too long")?;
                top.extend(size.to_be_bytes());
                top.extend(inner);
            }
            _ => top.extend(hex(word)?),
        }
    }
    match <[Vec<u8>; 1]>::try_from(open) {
        Ok([bytes]) => Ok(bytes),
        Err(_) => Err("[ without ]".into()),
    }
}

/// Appends a variable byte integer in its shortest form.
pub fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    assert!(value < 1 << 28, "scripts keep to lengths that there are");
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn hex(word: &str) -> Result<Vec<u8>, String> {
    let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
    let times = times.parse().map_err(|_| format!("not a count: {times}"))?;
    let mut bytes = Vec::new();
    for pair in digits.as_bytes().chunks(2) {
        let pair = std::str::from_utf8(pair).map_err(|_| format!("not hexadecimal: {word}"))?;
        match u8::from_str_radix(pair, 16) {
            Ok(byte) if pair.len() == 2 => bytes.push(byte),
            _ => return Err(format!("not hexadecimal: {word}")),
        }
    }
    Ok(bytes.repeat(times))
}

fn unescape(inner: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'x') => {
                let pair = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                bytes.extend(hex(&String::from_utf8_lossy(&pair))?);
            }
            Some(byte @ (b'\\' | b'"' | b'\'')) => bytes.push(byte),
            Some(_) | None => return Err(format!("unknown escape in {inner}")),
        }
    }
    Ok(bytes)
}
