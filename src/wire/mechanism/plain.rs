//! PLAIN: the client shows a user name and a password in clear text (RFC 24, names as in RFC 37).
//!
//! Roles come from the options, never from the greeting. The server compares every user in the same time,
//! whichever fits, so that answers tell nothing about names or passwords.

use bytes::BytesMut;

use super::{READY, Step, accept, encode_ready, encode_refusal, own_metadata};
use crate::event::Reason;
use crate::options::{Credentials, Security};
use crate::wire::command::{encode_command, encode_error};
use crate::wire::session::LocalSide;

const HELLO: &[u8] = b"HELLO";
const WELCOME: &[u8] = b"WELCOME";
const INITIATE: &[u8] = b"INITIATE";
/// What libzmq servers say to a wrong password.
const DENIED: &str = "400";

/// The side that shows its password: HELLO is out from the start.
#[derive(Debug)]
pub(crate) struct Client {
    welcomed: bool,
}

pub(super) fn encode_hello(local: &LocalSide, out: &mut BytesMut) {
    let Security::PlainClient(own) = &local.security else { return };
    // `Credentials` holds at most 255 bytes of each.
    let lengths = [own.username.len() as u8, own.password.len() as u8];
    let [username, password] = &lengths;
    let parts: [&[u8]; 4] = [
        std::slice::from_ref(username),
        own.username.as_bytes(),
        std::slice::from_ref(password),
        own.password.as_bytes(),
    ];
    encode_command(out, HELLO, &parts);
}

impl Client {
    pub(super) fn new() -> Client {
        Client { welcomed: false }
    }

    /// A client sends no ERROR: the grammar gives it to servers only.
    pub(super) fn handle_command(
        &mut self,
        local: &LocalSide,
        name: &[u8],
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<Step, Reason> {
        if name == WELCOME && !self.welcomed {
            if !data.is_empty() {
                return Err(Reason::Malformed("WELCOME with data"));
            }
            self.welcomed = true;
            encode_command(out, INITIATE, &[&own_metadata(local)]);
            return Ok(Step::Continue);
        }
        if name == READY && self.welcomed {
            return accept(local, data, None).map(Step::Ready);
        }
        Err(Reason::UnexpectedCommand)
    }
}

/// The side that knows the users.
#[derive(Debug)]
pub(crate) struct Server {
    /// The user that was let in; INITIATE is expected next.
    user: Option<String>,
}

impl Server {
    pub(super) fn new() -> Server {
        Server { user: None }
    }

    pub(super) fn handle_command(
        &mut self,
        local: &LocalSide,
        name: &[u8],
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<Step, Reason> {
        match &self.user {
            None if name == HELLO => {
                let user = authenticate(local, data).inspect_err(|reason| {
                    if *reason == Reason::AuthDenied {
                        encode_error(out, DENIED);
                    }
                })?;
                self.user = Some(user);
                encode_command(out, WELCOME, &[]);
                Ok(Step::Continue)
            }
            Some(user) if name == INITIATE => {
                let peer =
                    accept(local, data, Some(user.clone())).inspect_err(|reason| encode_refusal(local, reason, out))?;
                encode_ready(local, out);
                Ok(Step::Ready(peer))
            }
            _ => Err(Reason::UnexpectedCommand),
        }
    }
}

/// The user of a HELLO, if name and password belong together.
fn authenticate(local: &LocalSide, data: &[u8]) -> Result<String, Reason> {
    let (username, rest) = super::command::split(data).ok_or(Reason::Malformed("HELLO cut short"))?;
    let (password, rest) = super::command::split(rest).ok_or(Reason::Malformed("HELLO cut short"))?;
    if !rest.is_empty() {
        return Err(Reason::Malformed("HELLO with bytes after its password"));
    }
    let Security::PlainServer(users) = &local.security else { return Err(Reason::AuthDenied) };
    if !known(users, username, password) {
        return Err(Reason::AuthDenied);
    }
    String::from_utf8(username.to_vec()).map_err(|_| Reason::AuthDenied)
}

/// Whether some user has this name and password; looks at every user and every byte in any case.
fn known(users: &[Credentials], username: &[u8], password: &[u8]) -> bool {
    let mut found = 0;
    for user in users {
        found |= same(user.username.as_bytes(), username) & same(user.password.as_bytes(), password);
    }
    std::hint::black_box(found) == 1
}

/// 1 if both are equal, else 0, in a time that depends on neither: both count as padded to 256 bytes.
fn same(a: &[u8], b: &[u8]) -> u8 {
    let mut difference = a.len() ^ b.len();
    for index in 0..256 {
        let left = a.get(index).copied().unwrap_or(0);
        let right = b.get(index).copied().unwrap_or(0);
        // The barrier keeps the compiler from leaving the loop at the first difference.
        difference = std::hint::black_box(difference | usize::from(left ^ right));
    }
    u8::from(difference == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c14_only_the_whole_password_of_the_same_user_is_known() {
        let user = |name: &str, word: &str| Credentials::new(name, word).unwrap();
        let long = "x".repeat(255);
        let users = [user("ann", "secret"), user("bob", ""), user("", "void"), user(&long, &long)];
        for (name, word) in [("ann", "secret"), ("bob", ""), ("", "void"), (&long, &long)] {
            assert!(known(&users, name.as_bytes(), word.as_bytes()));
            assert!(!known(&[], name.as_bytes(), word.as_bytes()));
        }
        for end in 0..6 {
            assert!(!known(&users, b"ann", &b"secret"[..end]));
        }
        // A NUL is not the padding.
        for (name, word) in [("ann", "secret\0"), ("bob", "secret"), ("ann", ""), ("ann", "Secret"), ("bob", "\0")] {
            assert!(!known(&users, name.as_bytes(), word.as_bytes()), "{name} {word}");
        }
        assert!(!known(&users, long.as_bytes(), &long.as_bytes()[..254]));
    }

    #[test]
    fn same_is_equality() {
        for (a, b) in [("", ""), ("a", "a"), ("a", "b"), ("a", "ab"), ("ab", "aa"), ("", "\0")] {
            assert_eq!(same(a.as_bytes(), b.as_bytes()) == 1, a == b, "{a:?} {b:?}");
        }
    }
}
