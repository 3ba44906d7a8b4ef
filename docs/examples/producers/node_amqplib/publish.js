// A producer in Node.js: amqplib and nothing else.
//
//     npm install && AMQP_URL=amqp://... node publish.js
"use strict";

const amqp = require("amqplib");
const { randomBytes, randomUUID } = require("node:crypto");

// A UUIDv7: its milliseconds are the task's created_at.
function uuid7() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function event(type, data) {
  return { specversion: "1.0", id: randomUUID(), source: "my-service", type, time: new Date().toISOString(), data };
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  // What no queue takes comes back, and is confirmed all the same.
  channel.on("return", (message) => {
    throw new Error(`no queue took ${message.fields.routingKey}`);
  });
  const taskId = uuid7();
  const created = event("task.created", { task_id: taskId, kind: "research", payload: { topic: "owls" } });
  channel.publish("tasks", created.type, Buffer.from(JSON.stringify(created)), {
    contentType: "application/cloudevents+json",
    persistent: true,
    mandatory: true,
    messageId: created.id,
  });
  // Many events in one message: an array, under its own content type. Mind that a Date has milliseconds: two
  // events about the same task within one of them would tie.
  const parts = ["habitat", "diet", "calls"].map((kind) => event("task.created", { task_id: uuid7(), kind }));
  channel.publish("tasks", "task.created", Buffer.from(JSON.stringify(parts)), {
    contentType: "application/cloudevents-batch+json",
    persistent: true,
    mandatory: true,
    messageId: randomUUID(),
  });
  await channel.waitForConfirms();
  await connection.close();
  console.log(taskId);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
