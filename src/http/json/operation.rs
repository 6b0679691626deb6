//! Operations of a JSON API: each is declared once and gives both its route and its description.
//!
//! Used by every JSON API; `/openapi.json` is made of the declarations (OpenAPI 3.1,
//! <https://spec.openapis.org/oas/v3.1.0>).
//!
//! - `OP-1` there is no route without a description and no description without a route;
//! - `OP-2` every operation has an example for each parameter, for its body and for its answers.

use std::collections::BTreeMap;

use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use axum::{Json, Router, middleware};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::access::Gate;
use super::frame;
use super::input::{Input, ParamsInput};
use crate::http::error::ApiError;
use crate::types::Service;

/// The declaration of one operation.
pub struct Operation {
    filter: MethodFilter,
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Map<String, Value>,
    answers: BTreeMap<u16, Value>,
    schemas: Schemas,
}

type Schemas = BTreeMap<String, Value>;

impl Operation {
    fn new(filter: MethodFilter, method: &'static str, path: &'static str) -> Self {
        Operation {
            filter,
            method,
            path,
            summary: "",
            parameters: Vec::new(),
            body: Map::new(),
            answers: BTreeMap::new(),
            schemas: Schemas::new(),
        }
    }

    /// `GET path`, in axum's syntax.
    pub fn get(path: &'static str) -> Self {
        Self::new(MethodFilter::GET, "get", path)
    }

    /// `HEAD path`.
    pub fn head(path: &'static str) -> Self {
        Self::new(MethodFilter::HEAD, "head", path)
    }

    /// `POST path`.
    pub fn post(path: &'static str) -> Self {
        Self::new(MethodFilter::POST, "post", path)
    }

    /// `PUT path`.
    pub fn put(path: &'static str) -> Self {
        Self::new(MethodFilter::PUT, "put", path)
    }

    /// `DELETE path`.
    pub fn delete(path: &'static str) -> Self {
        Self::new(MethodFilter::DELETE, "delete", path)
    }

    /// What it does, in a sentence.
    pub fn about(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// A parameter of the path.
    pub fn path_param(mut self, name: &str, about: &str, example: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": about,
            "schema": { "type": "string" }, "example": example,
        }));
        self
    }

    /// The parameters `bucket` and `key`.
    pub fn object_path(self) -> Self {
        let key = "the key; its slashes may be raw or %2F";
        self.path_param("bucket", "the bucket", "photos").path_param("key", key, "2026/a.jpg")
    }

    /// Query parameters.
    pub fn query<T: ParamsInput + IntoParams>(mut self) -> Self {
        let params = T::into_params(|| Some(utoipa::openapi::path::ParameterIn::Query));
        self.parameters.extend(params.iter().map(value));
        self
    }

    /// A JSON body.
    pub fn body<T: Input + ToSchema>(mut self) -> Self {
        let content = json!({ "schema": self.schema::<T>(), "example": T::example() });
        self.body.insert("application/json".into(), content);
        self
    }

    /// A body of raw bytes.
    pub fn raw_body(mut self) -> Self {
        self.body.insert("application/octet-stream".into(), json!({ "example": "raw bytes" }));
        self
    }

    /// A JSON answer.
    pub fn answer<T: ToSchema>(
        mut self,
        status: StatusCode,
        about: &str,
        example: impl Serialize,
    ) -> Self {
        let content = json!({ "schema": self.schema::<T>(), "example": value(&example) });
        let answer = json!({ "description": about, "content": { "application/json": content } });
        self.answers.insert(status.as_u16(), answer);
        self
    }

    /// An answer of another media type.
    pub fn answer_raw(
        mut self,
        status: StatusCode,
        about: &str,
        kind: &str,
        example: &str,
    ) -> Self {
        let content = json!({ kind: { "schema": { "type": "string" }, "example": example } });
        let answer = json!({ "description": about, "content": content });
        self.answers.insert(status.as_u16(), answer);
        self
    }

    /// An answer without a body.
    pub fn empty(mut self, status: StatusCode, about: &str) -> Self {
        self.answers.insert(status.as_u16(), json!({ "description": about }));
        self
    }

    /// Further errors than 400, 422 and 503, which all operations have.
    pub fn fails(mut self, statuses: &[StatusCode]) -> Self {
        for status in statuses {
            self = self.fails_with(*status, status.canonical_reason().unwrap_or("error"));
        }
        self
    }

    fn fails_with(mut self, status: StatusCode, about: &str) -> Self {
        let content = json!({ "schema": self.schema::<ApiError>() });
        let answer = json!({ "description": about, "content": { "application/json": content } });
        self.answers.entry(status.as_u16()).or_insert(answer);
        self
    }

    /// A reference to a schema, which is kept with those that it refers to.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut nested = Vec::new();
        T::schemas(&mut nested);
        self.schemas.extend(nested.iter().map(|(name, schema)| (name.clone(), value(schema))));
        let name = T::name();
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        self.schemas.insert(name.into_owned(), value(&<T as PartialSchema>::schema()));
        reference
    }

    fn described(self) -> Described {
        let named = self.path.replace("{*", "{");
        let id = named.replace("/api/v1", "").replace(['{', '}'], "").replace(['/', '-', '.'], "_");
        let mut description = json!({
            "operationId": format!("{}{id}", self.method),
            "summary": self.summary,
            "parameters": self.parameters,
            "responses": by_text(self.answers),
        });
        if !self.body.is_empty() {
            description["requestBody"] = json!({ "required": true, "content": self.body });
        }
        Described { path: named, method: self.method, description, schemas: self.schemas }
    }
}

fn value(what: &impl Serialize) -> Value {
    serde_json::to_value(what).unwrap_or_default()
}

fn by_text(answers: BTreeMap<u16, Value>) -> Map<String, Value> {
    answers.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect()
}

/// An operation as the document shows it.
struct Described {
    path: String,
    method: &'static str,
    description: Value,
    schemas: Schemas,
}

/// The operations of a service.
pub struct Api<S = ()> {
    router: Router<S>,
    described: Vec<Described>,
}

impl<S: Clone + Send + Sync + 'static> Default for Api<S> {
    fn default() -> Self {
        Api { router: Router::new(), described: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// Adds an operation (OP-1).
    pub fn at<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let operation = operation
            .fails_with(StatusCode::BAD_REQUEST, "not parseable")
            .fails_with(StatusCode::UNPROCESSABLE_ENTITY, "parsed but invalid")
            .fails_with(StatusCode::SERVICE_UNAVAILABLE, "overload; see Retry-After");
        self.router = self.router.route(operation.path, on(operation.filter, handler));
        self.described.push(operation.described());
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<S2: Clone + Send + Sync + 'static>(self, state: S) -> Api<S2> {
        Api { router: self.router.with_state(state), described: self.described }
    }

    /// The operations of both.
    pub fn merge(mut self, other: Api<S>) -> Self {
        self.router = self.router.merge(other.router);
        self.described.extend(other.described);
        self
    }
}

impl Api {
    /// The router of a service: the operations, `/openapi.json`, and the common frame around them.
    pub fn finish(self, service: Service, gate: Gate) -> Router {
        let operation = Operation::get("/openapi.json")
            .about("This description")
            .answer::<Description>(StatusCode::OK, "OpenAPI 3.1", json!({ "openapi": "3.1.0" }));
        let mut described = self.described;
        described.push(operation.described());
        let document = std::sync::Arc::new(document(service, described));
        let show = move || {
            let document = document.clone();
            async move { Json((*document).clone()) }
        };
        self.router
            .route("/openapi.json", axum::routing::get(show))
            .fallback(frame::no_such_path)
            .method_not_allowed_fallback(frame::no_such_method)
            .layer(axum::extract::DefaultBodyLimit::disable()) // input.rs has limits of its own
            .layer(middleware::from_fn_with_state(gate, frame::around))
    }
}

/// The members of the description that tell what it is.
#[derive(Serialize, ToSchema)]
pub struct Description {
    /// The version of OpenAPI.
    pub openapi: String,
}

/// The OpenAPI document.
fn document(service: Service, described: Vec<Described>) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut schemas = Schemas::new();
    for operation in described {
        let methods = paths.entry(operation.path).or_default();
        methods.insert(operation.method.to_owned(), operation.description);
        schemas.extend(operation.schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("MockS3 {}", service.name()),
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Answers come in the envelope of the first generation with \
                            Accept: application/vnd.mocks3.v1+json.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "needed from outside of loopback and http.trusted_networks",
            } },
        },
        "security": [{}, { "token": [] }],
    })
}

#[cfg(test)]
mod tests;
