BEGIN TRANSACTION;
CREATE TABLE bmc_operation_day (
	lab TEXT NOT NULL, 
	node TEXT NOT NULL, 
	day DATE NOT NULL, 
	operations INTEGER NOT NULL, 
	lock_ups INTEGER NOT NULL, 
	PRIMARY KEY (lab, node, day)
);
CREATE TABLE quarantine (
	lab TEXT NOT NULL, 
	node TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	since DATETIME NOT NULL, 
	PRIMARY KEY (lab, node)
);
INSERT INTO "quarantine" VALUES('embedded','b','its BMC hangs','2026-11-21 04:15:00.000000');
CREATE TABLE reservation (
	id VARCHAR(16) NOT NULL, 
	lab TEXT NOT NULL, 
	nodes JSON NOT NULL, 
	holder TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	starts_at DATETIME NOT NULL, 
	ends_at DATETIME NOT NULL, 
	released_at DATETIME, 
	owner_host TEXT, 
	owner_boot TEXT, 
	owner_pid BIGINT, 
	owner_started_ticks BIGINT, 
	PRIMARY KEY (id)
);
INSERT INTO "reservation" VALUES('4e8c7f24','embedded','["a"]','ann','tuning neutron','2026-11-21 04:15:00.000000','2100-01-01 00:00:00.000000',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE schema_version (
	version INTEGER NOT NULL
);
INSERT INTO "schema_version" VALUES(1);
CREATE INDEX reservation_open ON reservation (lab, released_at);
COMMIT;
