// Reads every example with the generated classes and writes it anew: {"<message>": "<body>", ...}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [file, folder] = process.argv.slice(2);
const classes = createRequire(import.meta.url)(`${folder}/index.js`);
const { messages } = JSON.parse(readFileSync(file, "utf8")).components;
const bodies = {};
for (const [name, message] of Object.entries(messages)) {
  const generated = classes[message.payload.$ref?.split("/").pop()];
  if (generated) bodies[name] = generated.unmarshal(message.examples[0].payload).marshal();
}
console.log(JSON.stringify(bodies));
