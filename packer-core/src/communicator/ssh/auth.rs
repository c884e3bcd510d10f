//! Logging in: agent, keys, password, questions.

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};

use super::super::waiting::Cause;
use super::dial::{Client, Failure};
use super::settings::{Hop, Login};
use crate::error::Unreachable;

/// How often a server may ask questions in one login.
const MOST_QUESTIONS: usize = 16;

/// Logs in with the first way that the server takes; several where it wants more than one.
pub(super) async fn log_in(handle: &mut Handle<Client>, hop: &Hop) -> Result<(), Failure> {
    let mut attempt = Attempt { handle, user: &hop.user, offered: Vec::new(), tried: Vec::new() };
    // Tells which ways the server takes, and is all it needs for accounts without a password.
    let result = attempt.handle.authenticate_none(attempt.user).await;
    if attempt.took(result)? || attempt.all(&hop.login).await? {
        return Ok(());
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
    offered: Vec<MethodKind>,
    tried: Vec<String>,
}

impl Attempt<'_> {
    async fn all(&mut self, login: &Login) -> Result<bool, Failure> {
        if let Some(path) = &login.agent {
            #[cfg(unix)]
            let agent = AgentClient::connect_uds(path).await;
            #[cfg(windows)]
            let agent = AgentClient::connect_named_pipe(path).await;
            let agent = agent.map_err(|e| Failure::Later(format!("Cannot connect to SSH Agent: {e}")))?;
            if self.offers(MethodKind::PublicKey) && self.agent(agent).await? {
                return Ok(true);
            }
        }
        for (name, key, certificate) in &login.keys {
            if !self.offers(MethodKind::PublicKey) {
                break;
            }
            self.tried.push(name.clone());
            if let Some(certificate) = certificate {
                let result =
                    self.handle.authenticate_openssh_cert(self.user, key.clone(), certificate.clone()).await;
                if self.took(result)? {
                    return Ok(true);
                }
            }
            let hash = self.rsa_hash(key.algorithm().is_rsa()).await?;
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            let result = self.handle.authenticate_publickey(self.user, key).await;
            if self.took(result)? {
                return Ok(true);
            }
        }
        let Some(password) = &login.password else { return Ok(false) };
        if self.offers(MethodKind::Password) {
            self.tried.push("password".into());
            let result = self.handle.authenticate_password(self.user, password.reveal()).await;
            if self.took(result)? {
                return Ok(true);
            }
        }
        if self.offers(MethodKind::KeyboardInteractive) {
            self.tried.push("keyboard-interactive".into());
            return self.answer(password.reveal()).await;
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

    async fn answer(&mut self, password: &str) -> Result<bool, Failure> {
        let broken = |e: russh::Error| Failure::Later(format!("SSH login: {e}"));
        let mut response =
            self.handle.authenticate_keyboard_interactive_start(self.user, None).await.map_err(broken)?;
        for _ in 0..MOST_QUESTIONS {
            let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = response else { break };
            let answers = vec![password.to_owned(); prompts.len()];
            response =
                self.handle.authenticate_keyboard_interactive_respond(answers).await.map_err(broken)?;
        }
        Ok(matches!(response, KeyboardInteractiveAuthResponse::Success))
    }

    /// Whether a way was enough; remembers what the server takes from here on.
    fn took(&mut self, result: Result<AuthResult, russh::Error>) -> Result<bool, Failure> {
        match result {
            Ok(AuthResult::Success) => Ok(true),
            Ok(AuthResult::Failure { .. }) if self.handle.is_closed() && !self.tried.is_empty() => {
                // The server hangs up after too many refused ways: that is its way of refusing.
                let text = format!(
                    "SSH login as {:?} was refused: the server closed the connection after {}",
                    self.user,
                    self.tried.join(", ")
                );
                Err(Failure::Because(Cause::new(Unreachable::TooManyAttempts, text)))
            }
            Ok(AuthResult::Failure { .. }) if self.handle.is_closed() => {
                let text = "the SSH server closed the connection before the login";
                Err(Failure::Because(Cause::new(Unreachable::Closed, text)))
            }
            Ok(AuthResult::Failure { remaining_methods, .. }) => {
                self.offered = remaining_methods.to_vec();
                Ok(false)
            }
            Err(e) => Err(Failure::Later(format!("SSH login: {e}"))),
        }
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
        Ok(best.map_err(|e| Failure::Later(format!("SSH login: {e}")))?.flatten())
    }
}
