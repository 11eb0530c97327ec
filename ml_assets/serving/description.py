"""The description of a served champion as OpenAPI, from its features and their types."""

from typing import Any

from ml_assets.scoring import Scorer, must_be_there
from ml_assets.serving.asked import ARROW, CSV, JSON

_TYPES: dict[str, dict[str, Any]] = {
    "int64": {"type": "number"},
    "float64": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime64[ns]": {"type": "string", "format": "date-time"},
}


def described(scorer: Scorer) -> dict[str, Any]:
    """It returns the OpenAPI document of a version."""
    rows = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}}
    asked = {"type": "object", "required": ["rows"], "properties": {"rows": rows}}
    protocol = {
        "type": "object",
        "description": "MLflow's scoring protocol: exactly one of dataframe_split, "
        "dataframe_records, instances and inputs.",
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    schemas = {
        "Row": _row(scorer),
        "Predictions": _answer(scorer),
        "Error": _error(),
    }
    answers = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Predictions"}}}}
    plain = {"200": {"description": "It is so."}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": scorer.problem,
            "version": str(scorer.version),
            "description": f"The champion of {scorer.problem}: version {scorer.version}.",
        },
        "paths": {
            "/predict": {
                "post": _scores({JSON: {"schema": asked}, ARROW: binary}, answers),
            },
            "/invocations": {
                "post": _scores({JSON: {"schema": protocol}, CSV: binary}, {}),
            },
            "/health": {"get": {"summary": "The process lives.", "responses": plain}},
            "/ready": {"get": {"summary": "Who answers, and who should.", "responses": plain}},
            "/metrics": {"get": {"summary": "Metrics for Prometheus.", "responses": plain}},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _scores(content: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    error = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    told = {
        "400": "It cannot be read.",
        "401": "The token is not there, or another.",
        "413": "It is too large.",
        "415": "Its content type is another.",
        "422": "A column is absent, or a value is not as the column needs it.",
        "503": "Too many wait, or the log cannot be written.",
        "504": "It took too long.",
    }
    return {
        "summary": "Predictions for rows.",
        "security": [{}, {"token": []}],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "Predictions, in the order of the rows.", **answers},
            **{status: {"description": about, **error} for status, about in told.items()},
        },
    }


def _row(scorer: Scorer) -> dict[str, Any]:
    properties = {}
    for name, kind in scorer.columns.items():
        rule = scorer.rule(name)
        schema = dict(_TYPES.get(kind, {"type": "string"}))
        if rule.type == "boolean":
            schema = {"type": "boolean"}
        elif rule.type == "integer":
            schema = {"type": "integer"}
        if not must_be_there(rule):
            schema["type"] = [schema["type"], "null"]
        if rule.values is not None:
            schema["examples"] = rule.values[:10]
        properties[name] = {"description": f"It is {scorer.expected(name)}.", **schema}
    return {
        "type": "object",
        "description": "Every feature, null where it is missing. Other columns are ignored.",
        "required": list(scorer.columns),
        "properties": properties,
    }


def _answer(scorer: Scorer) -> dict[str, Any]:
    one: dict[str, Any] = {"type": "number"}
    if scorer.classes:
        one = {"enum": list(scorer.classes)}
    properties: dict[str, Any] = {
        "id": {"type": "string"},
        "problem": {"type": "string"},
        "model_version": {"type": "integer"},
        "model_versions": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Who answered each row, where a canary answered some of them.",
        },
        "scored_at": {"type": "string", "format": "date-time"},
        "predictions": {"type": "array", "items": one},
        "ignored": {"type": "array", "items": {"type": "string"}},
    }
    if scorer.classes:
        share = {"type": "object", "additionalProperties": {"type": "number"}}
        properties["probabilities"] = {"type": "array", "items": share}
    return {"type": "object", "properties": properties}


def _error() -> dict[str, Any]:
    inner = {
        "type": "object",
        "required": ["code", "message", "where"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "where": {"type": "object"},
        },
    }
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}
