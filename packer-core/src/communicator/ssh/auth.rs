//! Logging in: agent, keys, password, questions.

use std::io::Write;

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use signature::Signer as _;

use super::super::waiting::Cause;
use super::dial::{Client, Failure, said};
use super::settings::{Hop, Login};
use super::side::dial_agent;
use super::stage::Stage;
use crate::context::Context;
use crate::error::{Unreachable, os_text};
use crate::event::ForTerminal;
use crate::secrets::Secret;

/// How often a server may ask questions in one login, and how many at a time.
const MOST_ROUNDS: usize = 16;
/// How many ways one after the other a server may want.
const MOST_WAYS: usize = 8;
const MOST_QUESTIONS: usize = 16;

/// Logs in with the first way that the server takes; several where it wants more than one.
pub(super) async fn log_in(handle: &mut Handle<Client>, hop: &Hop, stage: &Stage) -> Result<(), Failure> {
    let (user, host) = (&hop.user, &hop.host);
    let (offered, tried) = (Vec::new(), Vec::new());
    let mut attempt = Attempt { handle, user, host, stage, offered, tried, is_further: false };
    // Tells which ways the server takes, and is all it needs for accounts without a password.
    let result = attempt.handle.authenticate_none(attempt.user).await;
    if attempt.took(result)? {
        return Ok(());
    }
    for _ in 0..MOST_WAYS {
        attempt.is_further = false;
        if attempt.all(&hop.login).await? {
            return Ok(());
        }
        // A server that wants several ways in its own order takes a former one only after a later one.
        if !attempt.is_further {
            break;
        }
    }
    let list = |items: &[String]| if items.is_empty() { "nothing".into() } else { items.join(", ") };
    let offered: Vec<String> = attempt.offered.iter().map(String::from).collect();
    Err(Failure::Refused(format!(
        "SSH login as {:?} on {} was refused (tried {}; the server takes {})",
        hop.user,
        hop.host,
        list(&attempt.tried),
        list(&offered),
    )))
}

struct Attempt<'a> {
    handle: &'a mut Handle<Client>,
    user: &'a str,
    host: &'a str,
    stage: &'a Stage,
    offered: Vec<MethodKind>,
    /// Whether the server has taken a way and wants another one.
    is_further: bool,
    tried: Vec<String>,
}

/// Who answers a server's questions.
#[derive(Clone, Copy)]
enum Answers<'a> {
    /// A password does, whatever the question.
    Always(&'a Secret),
    Person(&'a Context),
}

impl Answers<'_> {
    async fn to(self, question: &str) -> Result<Secret, Failure> {
        match self {
            Self::Always(password) => Ok(password.clone()),
            Self::Person(cx) => {
                // The server's words give the terminal no orders. Writing to memory does not fail.
                let mut shown = Vec::new();
                let _ = ForTerminal::new(&mut shown).write_all(question.as_bytes());
                cx.ask_hidden(&String::from_utf8_lossy(&shown)).await.map_err(Failure::Never)
            }
        }
    }
}

/// Signs with a key that is in memory. What russh signs certificates with by itself is SHA-1 where the key is RSA, which
/// servers refuse.
struct InMemory<'a>(&'a PrivateKey);

enum SignError {
    Gone,
    Key(signature::Error),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl russh::Signer for InMemory<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let signature = match self.0.key_data() {
            KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
            pair => pair.try_sign(&data),
        };
        let signature = signature.map_err(SignError::Key)?;
        // Type and signature are strings of their own in one (RFC 4252, 7).
        let kind = signature.algorithm();
        let kind = kind.as_str();
        let string = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        };
        let mut both = Vec::new();
        string(&mut both, kind.as_bytes());
        string(&mut both, signature.as_bytes());
        string(&mut data, &both);
        Ok(data)
    }
}

impl Attempt<'_> {
    async fn all(&mut self, login: &Login) -> Result<bool, Failure> {
        if let Some(path) = &login.agent {
            let agent = dial_agent(path).await.map(AgentClient::connect);
            let agent =
                agent.map_err(|e| Failure::Later(format!("Cannot connect to SSH Agent: {}", os_text(&e))))?;
            // It may ask a person, and it may hang: whoever waits for the login hears of it.
            self.stage.asks(Some(&format!("the SSH agent {}", path.display())));
            let enough = self.offers(MethodKind::PublicKey) && self.agent(agent).await?;
            self.stage.asks(None);
            if enough {
                return Ok(true);
            }
        }
        for (name, key, certificate) in &login.keys {
            if !self.offers(MethodKind::PublicKey) {
                break;
            }
            self.tried.push(name.clone());
            let hash = self.rsa_hash(key.algorithm().is_rsa()).await?;
            if let Some(certificate) = certificate {
                let (user, certificate) = (self.user, certificate.clone());
                let mut signer = InMemory(key.as_ref());
                let result = self.handle.authenticate_certificate_with(user, certificate, hash, &mut signer);
                let result = result.await.map_err(|e| match e {
                    SignError::Gone => russh::Error::SendError,
                    SignError::Key(e) => russh::Error::Keys(e.into()),
                });
                if self.took(result)? {
                    return Ok(true);
                }
            }
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            let result = self.handle.authenticate_publickey(self.user, key).await;
            if self.took(result)? {
                return Ok(true);
            }
        }
        if let Some(password) = &login.password
            && self.answer_with(Answers::Always(password)).await?
        {
            return Ok(true);
        }
        match &login.person {
            Some(person) => self.answer_with(Answers::Person(person)).await,
            None => Ok(false),
        }
    }

    async fn answer_with(&mut self, answers: Answers<'_>) -> Result<bool, Failure> {
        // A person hears the server's own questions first, which may be for more than a password.
        let mut ways = [MethodKind::Password, MethodKind::KeyboardInteractive];
        if matches!(answers, Answers::Person(_)) {
            ways.reverse();
        }
        for way in ways {
            if !self.offers(way) {
                continue;
            }
            self.tried.push(String::from(&way));
            let enough = match way {
                MethodKind::Password => {
                    let question = format!("{}@{}'s password: ", self.user, self.host);
                    let password = answers.to(&question).await?;
                    let result = self.handle.authenticate_password(self.user, password.reveal()).await;
                    self.took(result)?
                }
                _ => self.questions(answers).await?,
            };
            if enough {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn agent<S: AgentStream + Unpin + Send>(
        &mut self,
        mut agent: AgentClient<S>,
    ) -> Result<bool, Failure> {
        let keys = agent
            .request_identities()
            .await
            .map_err(|e| Failure::Later(format!("the SSH agent did not list its keys: {e}")))?;
        self.tried.push(format!("{} keys of the SSH agent", keys.len()));
        for identity in keys {
            let hash = self.rsa_hash(identity.public_key().algorithm().is_rsa()).await?;
            let result = match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle.authenticate_publickey_with(self.user, key, hash, &mut agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(self.user, certificate, hash, &mut agent).await
                }
            };
            match result {
                Ok(result) => {
                    if self.took(Ok(result))? {
                        return Ok(true);
                    }
                }
                // A key that the agent will not sign with (a removed token) is no reason to leave the others out.
                Err(_) if !self.handle.is_closed() => {}
                Err(e) => return Err(Failure::Later(format!("SSH login with the agent: {e}"))),
            }
            if !self.offers(MethodKind::PublicKey) {
                break;
            }
        }
        Ok(false)
    }

    /// Answers what the server asks.
    async fn questions(&mut self, answers: Answers<'_>) -> Result<bool, Failure> {
        let begun = self.handle.authenticate_keyboard_interactive_start(self.user, None).await;
        let mut response = begun.map_err(|e| self.broken(&e))?;
        for _ in 0..MOST_ROUNDS {
            let KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } = &response
            else {
                break;
            };
            if prompts.len() > MOST_QUESTIONS {
                break;
            }
            let mut replies = Vec::new();
            for prompt in prompts {
                let question = [name, instructions, &prompt.prompt].map(|text| text.as_str());
                let question: Vec<_> = question.into_iter().filter(|text| !text.trim().is_empty()).collect();
                replies.push(answers.to(&question.join("\n")).await?.reveal().to_owned());
            }
            let answered = self.handle.authenticate_keyboard_interactive_respond(replies).await;
            response = answered.map_err(|e| self.broken(&e))?;
        }
        match response {
            KeyboardInteractiveAuthResponse::Success => Ok(true),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                self.took(Ok(AuthResult::Failure { remaining_methods, partial_success }))
            }
            KeyboardInteractiveAuthResponse::InfoRequest { .. } => Ok(false),
        }
    }

    /// Whether a way was enough; remembers what the server takes from here on.
    fn took(&mut self, result: Result<AuthResult, russh::Error>) -> Result<bool, Failure> {
        match result {
            Ok(AuthResult::Success) => Ok(true),
            Ok(AuthResult::Failure { .. }) if self.handle.is_closed() && !self.tried.is_empty() => {
                // The server hangs up after too many refused ways: that is its way of refusing.
                let text = format!(
                    "SSH login as {:?} on {} was refused: the server closed the connection after {}",
                    self.user,
                    self.host,
                    self.tried.join(", ")
                );
                Err(Failure::Because(Cause::new(Unreachable::TooManyAttempts, text)))
            }
            Ok(AuthResult::Failure { .. }) if self.handle.is_closed() => {
                let text = format!("the SSH server {} closed the connection before the login", self.host);
                Err(Failure::Because(Cause::new(Unreachable::Closed, text)))
            }
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.offered = remaining_methods.to_vec();
                self.is_further |= partial_success;
                Ok(false)
            }
            Err(e) => Err(self.broken(&e)),
        }
    }

    /// A login that came to no end.
    fn broken(&self, error: &russh::Error) -> Failure {
        Failure::Later(format!("SSH login as {:?} on {}: {}", self.user, self.host, said(error)))
    }

    fn offers(&self, kind: MethodKind) -> bool {
        self.offered.contains(&kind)
    }

    /// The hash to sign with: only RSA has a choice, and only then the server is asked.
    async fn rsa_hash(&self, is_rsa: bool) -> Result<Option<HashAlg>, Failure> {
        if !is_rsa {
            return Ok(None);
        }
        let best = self.handle.best_supported_rsa_hash().await;
        // A server that does not say is too old for anything but SHA-1 signatures.
        Ok(best.map_err(|e| self.broken(&e))?.flatten())
    }
}
