//! A headless Chromium, driven over two pipes: its DevTools messages, each ended by a zero byte.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::process::{self, pid_of, wait_or_kill};
use super::stop::Stop;

/// What the program is called, by who packages it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// How long one answer of it may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Where it is on this machine, if it is.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// As a phone does.
    pub mobile: bool,
    /// By night.
    pub dark: bool,
}

/// One browser with one page.
pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What the page complained of: exceptions, and what the browser refused it.
    pub complaints: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when nobody writes to it any more.
        drop(self.input.take());
        if let Err(error) = nix::sys::signal::kill(pid_of(&self.child), nix::sys::signal::SIGTERM) {
            eprintln!("the browser cannot be ended: {error}");
        }
        wait_or_kill(&mut self.child, Duration::from_secs(5));
    }
}

impl Browser {
    /// Starts it with a profile of its own in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let flags = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
                     --disable-dev-shm-usage --remote-debugging-pipe";
        // It reads from the third file and writes to the fourth: ours are the first and second.
        let script = format!(
            "exec \"$0\" {flags} --user-data-dir=\"$1\" about:blank 3<&0 4>&1 1>/dev/null 2>&1"
        );
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(program).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = process::spawn(&mut command).context("the browser does not start")?;
        let input = child.stdin.take();
        let mut pipe = child.stdout.take().context("its pipe is ours")?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let (mut held, mut part) = (Vec::new(), vec![0; 65_536]);
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                held.extend_from_slice(part.get(..count).unwrap_or_default());
                while let Some(end) = held.iter().position(|byte| *byte == 0) {
                    let message: Vec<u8> = held.drain(..=end).collect();
                    let message = message.strip_suffix(&[0]).unwrap_or(&message);
                    let Ok(message) = serde_json::from_slice(message) else { continue };
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            }
        });
        let (next, session, complaints) = (0, None, Vec::new());
        let mut browser = Self { child, input, output, next, session, complaints };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.call(domain, &json!({}))?;
        }
        Ok(browser)
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        let input = self.input.as_mut().context("it still runs")?;
        input.write_all(&bytes).and_then(|()| input.flush()).context("the browser is gone")?;
        loop {
            let mut answer = match self.output.recv_timeout(ANSWER) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => bail!("the browser does not answer {method}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the browser is gone"),
            };
            if answer["id"] == self.next {
                if let Some(error) = answer.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(answer["result"].take());
            }
            self.overhear(&answer);
        }
    }

    fn overhear(&mut self, event: &Value) {
        let said = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &event["params"]["exceptionDetails"],
            Some("Log.entryAdded") => &event["params"]["entry"],
            _ => return,
        };
        self.complaints.push(said.to_string());
    }

    /// What an expression is in the page.
    ///
    /// # Errors
    /// When it throws, or the browser is gone.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", &asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// When it is not within `bound`.
    pub fn until(&mut self, stop: &Stop, expression: &str, bound: Duration) -> Result<()> {
        stop.until(expression, bound, Duration::from_millis(30), || {
            Ok((self.evaluate(expression)? == json!(true)).then_some(()))
        })
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn open(&mut self, address: &str) -> Result<()> {
        self.call("Page.navigate", &json!({"url": address})).map(drop)
    }

    /// Looks at it so from now on.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn see(&mut self, sight: Sight) -> Result<()> {
        let Sight { width, height, mobile, dark } = sight;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features})).map(drop)
    }

    /// Presses and releases the tabulator.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn tab(&mut self) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Tab", "code": "Tab",
                "windowsVirtualKeyCode": 9});
            self.call("Input.dispatchKeyEvent", &key)?;
        }
        Ok(())
    }

    /// Writes what is seen into a PNG file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn photograph(&mut self, file: &Path) -> Result<()> {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = shot["data"].as_str().context("a picture")?;
        let bytes = STANDARD.decode(data).context("a picture")?;
        std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }
}
