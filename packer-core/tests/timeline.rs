//! The page of a run in a real browser: Chromium, driven by chromedriver over the WebDriver protocol.
#![cfg(all(unix, feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use packer_core::event::Timeline;
use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble, require};
use packer_core::{Build, Engine, Pipeline};
use serde_json::{Value, json};

#[tokio::test]
async fn a_click_on_a_step_shows_its_log() {
    let (Some(_), Some(_)) = (require("chromedriver"), require("chromium")) else { return };
    let folder = TempFolder::new();
    let file = folder.path().join("run.html");
    let good = Build::new("good", FakeBuilder::new(folder.path()))
        .provision(FakeProvisioner::run("echo '<b>first</b>'"))
        .provision(FakeProvisioner::run("echo second"));
    let bad = Build::new("bad", FakeBuilder::new(folder.path()))
        .provision(FakeProvisioner::run("true").trouble(Trouble::Fail));
    Engine::new().events(Timeline::new().write_to(&file)).run(Pipeline::of([good, bad])).await.unwrap();

    let browser = Browser::start(folder.path());
    browser.open(&format!("file://{}", file.display()));
    assert_eq!(browser.run("return document.querySelectorAll('section.build').length"), json!(2));
    assert_eq!(browser.run("return document.querySelectorAll('.build.failed pre.why').length"), json!(1));
    let visible = "return [...document.querySelectorAll('.log:not([hidden]) li:not([hidden])')]\
                   .map(line => line.innerText).join('|')";
    assert_eq!(browser.run(visible), json!(""));
    // Bars are where they can be clicked: drawn, inside the page.
    let bar = "[...document.querySelectorAll('.build.succeeded .step')]\
               .filter(bar => bar.innerText.startsWith('provision'))";
    assert_eq!(browser.run(&format!("return {bar}.length")), json!(2));
    let inside = format!("return {bar}.every(b => b.getBoundingClientRect().right <= innerWidth + 1)");
    assert_eq!(browser.run(&inside), json!(true));
    for (step, seen, hidden) in [(0, "<b>first</b>", "second"), (1, "second", "first")] {
        browser.click(&format!("return {bar}[{step}]"));
        let lines = browser.run(visible).to_string();
        assert!(lines.contains(seen) && !lines.contains(hidden), "step {step}: {lines}");
    }
    browser.click(&format!("return {bar}[1]"));
    assert_eq!(browser.run(visible), json!(""));
    // Nothing of what was printed became markup.
    assert_eq!(browser.run("return document.querySelectorAll('.log b').length"), json!(0));
}

#[tokio::test]
async fn steps_from_the_cache_are_marked() {
    let (Some(_), Some(_)) = (require("chromedriver"), require("chromium")) else { return };
    let folder = TempFolder::new();
    let (file, cache) = (folder.path().join("run.html"), folder.path().join("cache"));
    let world = folder.path().join("world");
    std::fs::create_dir(&world).unwrap();
    for last in ["echo third", "echo other"] {
        let build = Build::new("good", FakeBuilder::new(&world).source("image"))
            .provision(FakeProvisioner::run("echo first"))
            .provision(FakeProvisioner::run("echo second"))
            .provision(FakeProvisioner::run(last));
        let engine = Engine::new().events(Timeline::new().write_to(&file));
        let engine = engine.cache(packer_core::engine::Cache::new(&cache, packer_core::Registry::new()));
        engine.run(Pipeline::of([build])).await.unwrap();
    }
    let browser = Browser::start(folder.path());
    browser.open(&format!("file://{}", file.display()));
    let reused = "[...document.querySelectorAll('.step.reused')]";
    assert_eq!(browser.run(&format!("return {reused}.length")), json!(2));
    let apart = format!(
        "const [a, b] = {reused}.map(bar => bar.getBoundingClientRect()); return a.bottom <= b.top && a.width > 0"
    );
    assert_eq!(browser.run(&apart), json!(true));
    // However short steps are, none lies on another.
    let hidden = "const bars = [...document.querySelectorAll('.step')].map(bar => [bar, bar.getBoundingClientRect()]); \
                  return bars.flatMap(([a, r]) => bars.filter(([b, s]) => a !== b && r.top < s.bottom && s.top < r.bottom \
                  && r.left < s.right - 0.1 && s.left < r.right - 0.1).map(([b]) => a.title + ' on ' + b.title))";
    assert_eq!(browser.run(hidden), json!([]));
    let visible = "return [...document.querySelectorAll('.log:not([hidden]) li:not([hidden])')]\
                   .map(line => line.innerText).join('|')";
    browser.click(&format!("return {reused}[1]"));
    let lines = browser.run(visible).to_string();
    assert!(lines.contains("Step 2 of 3 (fake) is taken from the cache."), "{lines}");
    browser.click(
        "return [...document.querySelectorAll('.step')].find(b => b.innerText.startsWith('provision'))",
    );
    let lines = browser.run(visible).to_string();
    assert!(lines.contains("configuration field command changed from") && lines.contains("other"), "{lines}");
}

/// A session of a headless Chromium, which ends with its driver.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    fn start(folder: &std::path::Path) -> Self {
        let mut driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        // It says on which port it listens: `ChromeDriver was started successfully on port 41234.`
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let started = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self { driver, port: started.unwrap(), session: String::new() };
        std::thread::spawn(move || lines.for_each(drop));
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let options = json!({ "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", profile,
        ]});
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    fn open(&self, url: &str) {
        self.of_session("url", &json!({ "url": url }));
    }

    fn run(&self, script: &str) -> Value {
        self.of_session("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks with the mouse on the element that a script returns.
    fn click(&self, script: &str) {
        let element = self.run(script);
        let (_, id) = element.as_object().unwrap().iter().next().unwrap();
        self.of_session(&format!("element/{}/click", id.as_str().unwrap()), &json!({}));
    }

    fn of_session(&self, command: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{command}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        // The driver leaves the connection open: the head says how long the answer is.
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let mut stream = BufReader::new(stream);
        let (mut status, mut length) = (String::new(), 0);
        stream.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(':') {
                None => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                Some(_) => {}
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
