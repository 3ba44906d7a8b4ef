// Writes Modelina's TypeScript classes of a document into a folder, and an index of them.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import modelina from "@asyncapi/modelina";

const [file, folder] = process.argv.slice(2);
const generator = new modelina.TypeScriptGenerator({
  presets: [{ preset: modelina.TS_COMMON_PRESET, options: { marshalling: true } }],
});
const models = await generator.generateCompleteModels(JSON.parse(readFileSync(file, "utf8")), {
  exportType: "named",
});
mkdirSync(folder, { recursive: true });
for (const { modelName, result } of models) writeFileSync(`${folder}/${modelName}.ts`, result);
const index = models.map(({ modelName }) => `export { ${modelName} } from './${modelName}';`);
writeFileSync(`${folder}/index.ts`, `${index.join("\n")}\n`);
