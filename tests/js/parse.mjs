// What the official parser finds in a document, as JSON: {valid, channels, operations, messages, diagnostics}.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const severities = ["error", "warning", "information", "hint"];
const found = diagnostics.map(({ severity, code, path, message }) => ({
  severity: severities[severity],
  code,
  path: path.join("."),
  message,
}));
const names = (items) => (items ?? []).map((item) => item.id());
console.log(
  JSON.stringify({
    valid: document !== undefined,
    channels: names(document?.channels()),
    operations: names(document?.operations()),
    messages: [...new Set(names(document?.messages()))],
    diagnostics: found,
  }),
);
