//! Reads a Rust source as text: its code without comments and literals, and the paths in it. Not a parser: it knows as
//! much of the language as the rules of `architecture.rs` need.

/// One file under `src`.
pub struct Source {
    /// The path below `src`, with `/`.
    pub name: String,
    /// The first step of the path, without `.rs`.
    pub room: String,
    /// The code before the tests: comments and the contents of literals are blank, lines stay where they were.
    pub product: String,
    /// All lines as they stand.
    text: String,
    /// How many `super` lead from here to the crate.
    depth: usize,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let steps: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
        let depth = steps.iter().filter(|step| **step != "mod").count();
        let all_tests = steps.iter().any(|step| *step == "tests" || step.ends_with("_tests"));
        let code = code_only(text);
        let product = if all_tests { String::new() } else { before_tests(&code) };
        Self { name: name.into(), room: steps[0].into(), product, text: text.into(), depth }
    }

    /// The paths below the crate that the code names, up to two steps long, each with its line.
    pub fn house_paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let tokens = tokens(&self.product);
        let mut at = 0;
        while at < tokens.len() {
            let line = tokens[at].0;
            let follows_path = at > 0 && tokens[at - 1].1 == "::";
            let mut supers = 0;
            let mut next = at;
            if tokens[at].1 == "crate" && !follows_path {
                next += 1;
            } else {
                while is(&tokens, next, "super") && is(&tokens, next + 1, "::") && !follows_path {
                    supers += 1;
                    next += 2;
                }
                if supers > 0 {
                    next -= 1;
                }
                if supers == 0 || supers < self.depth {
                    at = next.max(at + 1);
                    continue;
                }
            }
            if is(&tokens, next, "::") {
                let mut paths = Vec::new();
                next = use_tree(&tokens, next + 1, &[], &mut paths);
                found.extend(paths.into_iter().map(|path| (line, path)));
            }
            at = next.max(at + 1);
        }
        found
    }

    /// The lines of the code that name the crate `vendor`.
    pub fn vendor_lines<'a>(&'a self, vendor: &'a str) -> impl Iterator<Item = usize> + 'a {
        let tokens = tokens(&self.product);
        let own_module = (0..tokens.len()).any(|n| is(&tokens, n, "mod") && is(&tokens, n + 1, vendor));
        let hits: Vec<usize> = (0..tokens.len())
            .filter(|&n| is(&tokens, n, vendor))
            .filter(|&n| {
                let rooted = n > 0 && is(&tokens, n - 1, "::");
                let inside_path = rooted && n > 1 && tokens[n - 2].1.chars().all(|c| c.is_alphanumeric() || c == '_');
                let inside_path = inside_path && !is(&tokens, n - 2, "use");
                let names_a_crate = is(&tokens, n + 1, "::") || (n > 0 && is(&tokens, n - 1, "use"));
                names_a_crate && !inside_path && (rooted || !own_module)
            })
            .map(|n| tokens[n].0)
            .collect();
        hits.into_iter()
    }

    /// The lines with `unsafe` that no `SAFETY:` in the comment above (or beside) explains.
    pub fn unsafe_without_reason(&self) -> impl Iterator<Item = usize> + '_ {
        const ABOVE: usize = 4;
        let code = code_only(&self.text);
        let lines: Vec<&str> = self.text.lines().collect();
        let tokens = tokens(&code);
        // `unsafe extern` declares; what needs a reason is the call.
        let uses = |n: &usize| is(&tokens, *n, "unsafe") && !is(&tokens, n + 1, "extern");
        let hits: Vec<usize> = (0..tokens.len()).filter(uses).map(|n| tokens[n].0).collect();
        hits.into_iter().filter(move |&line| {
            !lines[line.saturating_sub(1 + ABOVE)..line].iter().any(|text| text.contains("SAFETY:"))
        })
    }
}

fn is(tokens: &[(usize, String)], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|(_, token)| token == word)
}

/// Words and punctuation with their lines, from 1.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (n, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let len = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                len => len,
            };
            found.push((n + 1, rest[..len].to_owned()));
            rest = rest[len..].trim_start();
        }
    }
    found
}

/// Reads the use tree that begins at `at`, below `prefix`; returns where it ends.
fn use_tree(tokens: &[(usize, String)], mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        if is(tokens, at, "{") {
            at += 1;
            while at < tokens.len() && !is(tokens, at, "}") {
                let end = use_tree(tokens, at, &path, paths);
                at = if is(tokens, end, ",") { end + 1 } else { end.max(at + 1) };
            }
            return at + 1;
        }
        let Some((_, word)) = tokens.get(at) else { break };
        if !word.chars().all(|c| c.is_alphanumeric() || c == '_') && word != "*" {
            break;
        }
        if word != "self" {
            path.push(word.clone());
        }
        at += 1;
        if is(tokens, at, "as") {
            at += 2;
        }
        if !is(tokens, at, "::") {
            break;
        }
        at += 1;
    }
    path.truncate(2);
    paths.push(path);
    at
}

/// The lines before `#[cfg(test)] mod name {`.
fn before_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let tail = (0..lines.len()).find(|&n| {
        let Some(rest) = lines[n].trim_start().strip_prefix("#[cfg(test)]") else { return false };
        let next = [rest].into_iter().chain(lines[n + 1..].iter().copied());
        let item = next.map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#["));
        item.is_some_and(|item| item.starts_with("mod ") && item.contains('{'))
    });
    lines[..tail.unwrap_or(lines.len())].join("\n")
}

/// The text with comments and the insides of literals blanked; lines stay where they were.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let peek = |n: usize| chars.get(n).copied().unwrap_or('\0');
    let skip = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to.min(chars.len())].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        to
    };
    while at < chars.len() {
        let c = chars[at];
        let in_word = at > 0 && (peek(at - 1).is_alphanumeric() || peek(at - 1) == '_');
        if c == '/' && peek(at + 1) == '/' {
            let end = (at..chars.len()).find(|&n| chars[n] == '\n').unwrap_or(chars.len());
            at = skip(&mut out, at, end);
        } else if c == '/' && peek(at + 1) == '*' {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < chars.len() {
                match (peek(end), peek(end + 1)) {
                    ('/', '*') => (depth, end) = (depth + 1, end + 2),
                    ('*', '/') => (depth, end) = (depth - 1, end + 2),
                    _ => end += 1,
                }
            }
            at = skip(&mut out, at, end);
        } else if let Some(hashes) = raw_string(&chars, at).filter(|_| !in_word || peek(at - 1) == 'b') {
            let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let body = at + hashes + 2;
            let end = (body..chars.len())
                .find(|&n| chars[n..].iter().take(close.len()).copied().eq(close.chars()))
                .map_or(chars.len(), |n| n + close.len());
            at = skip(&mut out, at, end);
        } else if c == '"' {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            at = skip(&mut out, at, end + 1);
        } else if c == '\'' && (peek(at + 1) == '\\' || peek(at + 2) == '\'') {
            let mut end = at + if peek(at + 1) == '\\' { 3 } else { 2 };
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            at = skip(&mut out, at, end + 1);
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

/// The number of `#` of a raw string that begins at `at`.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at) != Some(&'r') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}
