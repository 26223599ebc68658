//! `user:password` lines from files: secrets never come from the command line.

use std::path::Path;

use ginnel::{Credentials, Security};

use crate::exit::Failure;

/// The security that the two flags ask for.
pub(crate) fn security(client: Option<&Path>, server: Option<&Path>) -> Result<Security, Failure> {
    match (client, server) {
        (None, None) => Ok(Security::Null),
        (Some(path), None) => {
            let (user, password) = login(path)?;
            Ok(Security::PlainClient(credentials(user, password)?))
        }
        (None, Some(path)) => {
            let users: Result<_, Failure> =
                read(path)?.into_iter().map(|(user, password)| credentials(user, password)).collect();
            Ok(Security::PlainServer(users?))
        }
        (Some(_), Some(_)) => Err(Failure::usage("--plain-file and --plain-server-file exclude each other")),
    }
}

/// The one login of a `--plain-file`.
pub(crate) fn login(path: &Path) -> Result<(String, String), Failure> {
    let mut lines = read(path)?;
    match (lines.pop(), lines.is_empty()) {
        (Some(login), true) => Ok(login),
        _ => Err(Failure::usage(format_args!("{}: write one line, user:password", path.display()))),
    }
}

fn credentials(user: String, password: String) -> Result<Credentials, Failure> {
    Credentials::new(user, password).map_err(Failure::usage)
}

fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format_args!("cannot read {file}: {e}")))?;
    parse(&text).map_err(|line| Failure::usage(format_args!("{file}: line {line}: write user:password")))
}

/// Blank lines do not count. The error is the number of the line, never its text.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let (user, password) = line.split_once(':').ok_or(index + 1)?;
            if user.is_empty() { Err(index + 1) } else { Ok((user.to_owned(), password.to_owned())) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lines_of_users() {
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(parse("a:b\n\nc:d:e\n"), Ok(vec![pair("a", "b"), pair("c", "d:e")]));
        assert_eq!(parse("a:b\nnothing\n"), Err(2));
        assert_eq!(parse(":b\n"), Err(1));
    }
}
