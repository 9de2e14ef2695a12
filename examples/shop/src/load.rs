//! The requests: which ones, and sending them.
//!
//! The mix is a deck of 20 requests of all kinds, shuffled anew for each round by a fixed seed: the
//! n-th request is the same in every run. Nothing here is traced, so that each trace begins at the
//! gateway.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests under way at the same time.
const CONCURRENCY: usize = 8;

const SEED: u64 = 59;

/// Longer than any timeout behind the gateway.
const TIMEOUT: Duration = Duration::from_secs(30);

/// At most so many wrong answers are described.
const SURPRISES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    GetUser,
    CreateUser,
    PlaceOrder,
    Dashboard,
    OrdersOfUser,
    SalesReport,
    // Invalid ones.
    UnknownUser,
    InvalidUser,
    MalformedJson,
    // Ones that fail.
    CardDeclined,
    OutOfStock,
    PaymentTimeout,
    Coupon,
}

const DECK: [Kind; 20] = [
    Kind::GetUser,
    Kind::GetUser,
    Kind::GetUser,
    Kind::CreateUser,
    Kind::CreateUser,
    Kind::CreateUser,
    Kind::PlaceOrder,
    Kind::PlaceOrder,
    Kind::PlaceOrder,
    Kind::PlaceOrder,
    Kind::Dashboard,
    Kind::OrdersOfUser,
    Kind::SalesReport,
    Kind::UnknownUser,
    Kind::InvalidUser,
    Kind::MalformedJson,
    Kind::CardDeclined,
    Kind::OutOfStock,
    Kind::PaymentTimeout,
    Kind::Coupon,
];

/// A request and the status that is the right answer to it.
#[derive(Debug, PartialEq)]
struct Planned {
    method: Method,
    path: String,
    body: Option<String>,
    status: u16,
}

/// The `n`-th request, from 0.
fn plan(n: u64) -> Planned {
    let round = n / DECK.len() as u64;
    let position = (n % DECK.len() as u64) as usize;
    let kind = shuffled(SEED.wrapping_add(round))[position];
    // Users 1 to 5 keep the orders that they begin with.
    let (with_orders, buyer) = (1 + n % 5, 6 + n % 15);
    let get = |path: String, status| Planned { method: Method::GET, path, body: None, status };
    let post = |path: &str, body: Value, status| Planned {
        method: Method::POST,
        path: path.to_owned(),
        body: Some(body.to_string()),
        status,
    };
    let order = |item: &str, card_token: &str, coupon: Option<&str>, status| {
        let quantity = 1 + n % 3;
        let body = json!({
            "user_id": buyer,
            "item": item,
            "quantity": quantity,
            "card_token": card_token,
            "coupon": coupon,
        });
        post("/orders", body, status)
    };
    match kind {
        Kind::GetUser => get(format!("/users/{}", 1 + n % 20), 200),
        Kind::CreateUser => {
            let email = format!("customer{n}@example.com");
            post("/users", json!({ "name": format!("Customer {n}"), "email": email }), 201)
        }
        Kind::PlaceOrder => {
            let item = ["teapot", "lamp", "chair"][(n % 3) as usize];
            order(item, &format!("tok_{n}"), None, 201)
        }
        Kind::Dashboard => get(format!("/users/{with_orders}/dashboard"), 200),
        Kind::OrdersOfUser => get(format!("/users/{with_orders}/orders"), 200),
        Kind::SalesReport => get("/reports/sales".to_owned(), 200),
        Kind::UnknownUser => get(format!("/users/{}", 1_000_000_000 + n), 404),
        Kind::InvalidUser => post("/users", json!({ "name": " ", "email": "nobody" }), 422),
        Kind::MalformedJson => {
            Planned { body: Some("{\"name\": ".to_owned()), ..post("/users", Value::Null, 400) }
        }
        Kind::CardDeclined => order("lamp", "tok_declined", None, 402),
        Kind::OutOfStock => order("rare-book", "tok_1", None, 409),
        Kind::PaymentTimeout => order("chair", "tok_slow", None, 504),
        Kind::Coupon => order("teapot", "tok_1", Some("SPRING"), 500),
    }
}

/// Fisher and Yates, with splitmix64 for chance.
fn shuffled(seed: u64) -> [Kind; DECK.len()] {
    let mut deck = DECK;
    let mut state = seed;
    for last in (1..deck.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut chance = state;
        chance = (chance ^ (chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chance = (chance ^ (chance >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chance ^= chance >> 31;
        deck.swap(last, (chance % (last as u64 + 1)) as usize);
    }
    deck
}

/// What became of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Answered with 2xx.
    pub(crate) ok: u64,
    /// Refused because the request itself was wrong: 400, 404, 422.
    pub(crate) invalid: u64,
    /// All others.
    pub(crate) failed: u64,
    /// Of all these, those whose answer was not the planned one.
    pub(crate) unexpected: u64,
    /// The first of those.
    pub(crate) surprises: Vec<String>,
}

impl Tally {
    pub(crate) fn requests(&self) -> u64 {
        self.ok + self.invalid + self.failed
    }

    fn count(&mut self, planned: &Planned, answer: Result<u16, String>) {
        match answer {
            Ok(200..=299) => self.ok += 1,
            Ok(400 | 404 | 422) => self.invalid += 1,
            _ => self.failed += 1,
        }
        if answer == Ok(planned.status) {
            return;
        }
        self.unexpected += 1;
        if self.surprises.len() < SURPRISES {
            let Planned { method, path, status, .. } = planned;
            let answer = answer.map_or_else(|error| error, |status| status.to_string());
            self.surprises.push(format!("{method} {path}: {answer} instead of {status}"));
        }
    }
}

/// A load that can be stopped and watched from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Load(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    gateway: String,
    requests: u64,
    next: AtomicU64,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
}

impl Load {
    pub(crate) fn new(gateway: String, requests: u64) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self(Arc::new(Inner {
            client,
            gateway,
            requests,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            tally: Mutex::default(),
        })))
    }

    /// Sends all requests; returns when the last one is answered.
    pub(crate) async fn run(&self) {
        let mut workers = JoinSet::new();
        for _ in 0..CONCURRENCY {
            let inner = Arc::clone(&self.0);
            workers.spawn(async move { inner.work().await });
        }
        workers.join_all().await;
    }

    /// No further requests; [`run`](Self::run) returns when those under way are answered.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.0.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls `show` with the number of answers from time to time. Never returns.
    pub(crate) async fn watch(&self, every: Duration, show: impl Fn(u64)) -> ! {
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            show(self.tally().requests());
        }
    }
}

impl Inner {
    async fn work(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.requests {
                return;
            }
            let planned = plan(n);
            let answer = self.send(&planned).await;
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(&planned, answer);
        }
    }

    async fn send(&self, planned: &Planned) -> Result<u16, String> {
        let url = format!("{}{}", self.gateway, planned.path);
        let mut request = self.client.request(planned.method.clone(), url);
        if let Some(body) = &planned.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            response.bytes().await?;
            Ok(status)
        };
        answer.await.map_err(|error: reqwest::Error| format!("no answer ({error})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_holds_every_kind_in_an_order_of_its_own() {
        let mut rounds = [shuffled(1), shuffled(2)];
        assert_ne!(rounds[0], rounds[1]);
        for round in &mut rounds {
            round.sort_unstable();
            assert_eq!(*round, DECK);
        }
    }

    #[test]
    fn the_same_request_comes_at_the_same_place_in_every_run() {
        for n in 0..100 {
            assert_eq!(plan(n), plan(n));
        }
        assert_ne!(plan(0), plan(20));
    }

    #[test]
    fn answers_are_counted_by_what_they_mean() {
        let planned = plan(0);
        let mut tally = Tally::default();
        for answer in [200, 201, 400, 404, 422, 402, 409, 500, 504] {
            tally.count(&Planned { status: answer, ..plan(0) }, Ok(answer));
        }
        assert_eq!((tally.ok, tally.invalid, tally.failed, tally.unexpected), (2, 3, 4, 0));
        tally.count(&planned, Err("no answer".to_owned()));
        assert_eq!((tally.failed, tally.unexpected, tally.surprises.len()), (5, 1, 1));
        assert_eq!(tally.requests(), 10);
    }
}
