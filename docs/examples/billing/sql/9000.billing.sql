-- depends: 0004.privileges

CREATE TABLE invoices (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL,
    amount numeric NOT NULL,
    stamp bytea NOT NULL
);
