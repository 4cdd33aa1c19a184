BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE lrsearch_epochs (
	slot_id VARCHAR(36) NOT NULL, 
	epoch INTEGER NOT NULL, 
	study_id VARCHAR(36) NOT NULL, 
	step INTEGER NOT NULL, 
	lr FLOAT NOT NULL, 
	train_loss FLOAT, 
	val_loss FLOAT, 
	val_accuracy FLOAT, 
	averaged_val_loss FLOAT, 
	averaged_val_accuracy FLOAT, 
	val_score FLOAT, 
	averaged_val_score FLOAT, 
	rung_score FLOAT, 
	comparable BOOLEAN NOT NULL, 
	cut FLOAT, 
	n_compared INTEGER DEFAULT '0' NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (slot_id, epoch)
);
INSERT INTO "lrsearch_epochs" VALUES('e2ac3414-4805-4984-b80f-5c567d2efcc7',1,'226648a3-394c-4a3c-bdea-9a022b6bc593',2,8.53699837202680500425e-02,1.03980326652526855468e+00,9.37203645706176757812e-01,6.66666666666666629659e-01,9.37203645706176757812e-01,6.66666666666666629659e-01,NULL,NULL,6.66666666666666629659e-01,1,6.66666666666666629659e-01,1,3.86568200156034436076e-03);
INSERT INTO "lrsearch_epochs" VALUES('e2ac3414-4805-4984-b80f-5c567d2efcc7',2,'226648a3-394c-4a3c-bdea-9a022b6bc593',4,1.47300162797319566382e-02,5.72333604097366333007e-01,9.49104706446329715596e-01,6.66666666666666629659e-01,9.49104706446329715596e-01,6.66666666666666629659e-01,NULL,NULL,6.66666666666666629659e-01,1,NULL,0,2.46110099942598026245e-03);
INSERT INTO "lrsearch_epochs" VALUES('b257dc73-0704-4615-a929-44b155d336a9',1,'226648a3-394c-4a3c-bdea-9a022b6bc593',2,8.91208202053899584127e-03,1.10598009824752807617e+00,1.06129988034566236088e+00,0.5,1.06129988034566236088e+00,0.5,NULL,NULL,0.5,1,6.66666666666666629659e-01,2,1.98929100042732898145e-03);
INSERT INTO "lrsearch_epochs" VALUES('3fa27dee-18d4-43b1-b0e6-efdc4808b6f0',1,'226648a3-394c-4a3c-bdea-9a022b6bc593',2,2.21841772068647206852e-04,1.10508292913436889648e+00,1.0758735338846843188e+00,1.66666666666666657414e-01,1.0758735338846843188e+00,1.66666666666666657414e-01,NULL,NULL,1.66666666666666657414e-01,1,6.66666666666666629659e-01,3,3.33734999912849161773e-03);
CREATE TABLE lrsearch_interruptions (
	slot_id VARCHAR(36) NOT NULL, 
	attempt INTEGER NOT NULL, 
	study_id VARCHAR(36) NOT NULL, 
	reason VARCHAR(32) NOT NULL, 
	worker VARCHAR(200) NOT NULL, 
	device VARCHAR(200) NOT NULL, 
	epoch INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	message TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (slot_id, attempt)
);
CREATE TABLE lrsearch_leases (
	slot_id VARCHAR(36) NOT NULL, 
	study_id VARCHAR(36) NOT NULL, 
	token VARCHAR(36) NOT NULL, 
	worker_id VARCHAR(36) NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (slot_id)
);
CREATE TABLE lrsearch_schema (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_schema" VALUES(1,5);
CREATE TABLE lrsearch_slots (
	id VARCHAR(36) NOT NULL, 
	study_id VARCHAR(36) NOT NULL, 
	position INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	number INTEGER, 
	origin VARCHAR(16) NOT NULL, 
	role VARCHAR(16) DEFAULT 'search' NOT NULL, 
	parent INTEGER, 
	seed INTEGER, 
	attempts INTEGER NOT NULL, 
	worker VARCHAR(200) NOT NULL, 
	device VARCHAR(200) NOT NULL, 
	versions VARCHAR(200) NOT NULL, 
	started_at DATETIME, 
	ended_at DATETIME, 
	outcome VARCHAR(16), 
	reason VARCHAR(32), 
	value FLOAT, 
	epoch INTEGER, 
	step INTEGER, 
	lr FLOAT, 
	message TEXT, 
	test_loss FLOAT, 
	test_accuracy FLOAT, 
	test_score FLOAT, 
	ended_token VARCHAR(36), 
	checkpoint VARCHAR(200), 
	checkpoint_step INTEGER, 
	weights VARCHAR(200), 
	weights_sha256 VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (study_id, position)
);
INSERT INTO "lrsearch_slots" VALUES('e2ac3414-4805-4984-b80f-5c567d2efcc7','226648a3-394c-4a3c-bdea-9a022b6bc593',0,'ended',0,'portfolio','search',NULL,1,1,'vm:5916','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-28 18:47:04.170000','2026-11-28 18:47:04.192000','complete','finished',6.66666666666666629659e-01,2,NULL,NULL,'complete 0.6667',8.16995322704315185546e-01,0.625,NULL,'5534c20b-e0de-4716-9275-dd5dc787ce41',NULL,NULL,'lrsearch-226648a3-394c-4a3c-bdea-9a022b6bc593-3417d6d7-ba57-4099-b6e8-043e10821b94.safetensors','984527c46e1b090113c0717dd1294cdbfd02bb9044c370e779498ee4c3bc8c72');
INSERT INTO "lrsearch_slots" VALUES('b257dc73-0704-4615-a929-44b155d336a9','226648a3-394c-4a3c-bdea-9a022b6bc593',1,'ended',1,'sampler','search',NULL,1,1,'vm:5916','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-28 18:47:04.202000','2026-11-28 18:47:04.209000','pruned','rung',0.5,1,NULL,NULL,'pruned at epoch 1: 0.5 below rung cut 0.6667',NULL,NULL,NULL,'9376e510-f9de-4de2-b26a-bbbf0dc8309c',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('3fa27dee-18d4-43b1-b0e6-efdc4808b6f0','226648a3-394c-4a3c-bdea-9a022b6bc593',2,'ended',2,'sampler','search',NULL,1,1,'vm:5916','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-28 18:47:04.215000','2026-11-28 18:47:04.223000','pruned','rung',1.66666666666666657414e-01,1,NULL,NULL,'pruned at epoch 1: 0.1667 below rung cut 0.6667',NULL,NULL,NULL,'31146225-e8b6-4df2-bd14-7177d9dfa8a7',NULL,NULL,NULL,NULL);
CREATE TABLE lrsearch_studies (
	id VARCHAR(36) NOT NULL, 
	budget_trials INTEGER, 
	budget_hours FLOAT, 
	max_failures INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	stopped VARCHAR(8), 
	version VARCHAR(40), 
	artifacts TEXT, 
	facts TEXT, 
	optuna_id INTEGER, 
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_studies" VALUES('226648a3-394c-4a3c-bdea-9a022b6bc593',3,NULL,5,5,'2026-11-28 18:47:04.148000',NULL,'0.1.0',NULL,'{"n_train":22,"n_validation":6,"n_test":8,"shape":[3,8,8],"classes":["ant","bee","cow"],"mean":[0.5040775401069518,0.5075311942959002,0.5083806818181817],"std":[0.29381371277517176,0.2881894215688232,0.2906109946158706],"validation_counts":[4,1,1],"test_counts":[5,2,1],"fingerprint":"f42a4792c71587ffa98518db9ead5c5b32d13fa389922534bc564cc177444980","train_counts":[15,5,2],"network":{"n_parameters":25091,"levels":[["dense1.weight","dense1.bias"],["output.weight","output.bias"]],"frozen":[],"batch_norm":false,"draws":false,"draws_elsewhere":false,"repeats":true,"code":"","weights":""}}',1);
CREATE TABLE lrsearch_workers (
	id VARCHAR(36) NOT NULL, 
	host VARCHAR(200) NOT NULL, 
	pid INTEGER NOT NULL, 
	process_space VARCHAR(200) NOT NULL, 
	machine VARCHAR(200) NOT NULL, 
	process_started FLOAT NOT NULL, 
	device VARCHAR(200) NOT NULL, 
	versions VARCHAR(200) NOT NULL, 
	study_id VARCHAR(36), 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'pets');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["validation accuracy"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'lrsearch:spec','"{\"budget\": {\"max_failures\": 5, \"trials\": 3}, \"dataset\": {\"name\": \"folder:/data/pets\", \"split_seed\": 0, \"validation_fraction\": 0.2}, \"epochs\": 2, \"model\": {\"name\": \"mlp\"}, \"name\": \"pets\", \"objective\": {\"metric\": \"accuracy\"}, \"pruner\": {\"min_early_stopping_rate\": 0, \"name\": \"asha\", \"reduction_factor\": 3}, \"sampler\": {\"n_startup_trials\": 10, \"name\": \"tpe\", \"portfolio\": true}, \"seed\": 1, \"space\": {\"batch_size\": 16, \"final_fraction\": {\"high\": 0.1, \"log\": true, \"low\": 0.001}, \"optimizer\": {\"adamw\": {\"beta1\": 0.9, \"beta2\": 0.999, \"eps\": 1e-08, \"peak_lr\": {\"high\": 0.1, \"log\": true, \"low\": 1e-05}, \"weight_decay\": {\"high\": 1.0, \"log\": true, \"low\": 0.01}}, \"sgd\": {\"dampening\": 0.0, \"momentum\": 0.9, \"nesterov\": false, \"peak_lr\": {\"high\": 3.0, \"log\": true, \"low\": 0.001}, \"weight_decay\": {\"high\": 0.01, \"log\": true, \"low\": 0.0001}}}, \"schedule\": {\"constant\": {}, \"cosine\": {}, \"linear\": {}, \"one_cycle\": {\"initial_fraction\": 0.04, \"rise_fraction\": {\"high\": 0.45, \"low\": 0.1}}, \"step\": {\"drops\": {\"high\": 4, \"low\": 1}}, \"wsd\": {\"decay_fraction\": {\"high\": 0.5, \"low\": 0.1}}}, \"warmup_fraction\": {\"high\": 0.2, \"low\": 0.0}}, \"training\": {\"averaging\": \"auto\", \"divergence_watch\": true, \"drop_last\": false}, \"workers\": {\"checkpoint_seconds\": 60.0, \"lease_seconds\": 60.0, \"no_progress_seconds\": 600.0, \"retries\": {\"crash\": 1, \"lost\": 3, \"out_of_memory\": 1, \"stalled\": 1, \"timed_out\": 0}}}"');
INSERT INTO "study_user_attributes" VALUES(2,1,'lrsearch:id','"226648a3-394c-4a3c-bdea-9a022b6bc593"');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,6.66666666666666629659e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,6.66666666666666629659e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,0.5,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,3,1,1.66666666666666657414e-01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(2,1,'schedule',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(3,1,'warmup_fraction',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(4,1,'final_fraction',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(5,1,'peak_lr_sgd',0.1,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(6,1,'weight_decay_sgd',0.0005,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(7,2,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(8,2,'schedule',4.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(9,2,'final_fraction',1.15226093091856099034e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(10,2,'peak_lr_sgd',1.05237942130130338047e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(11,2,'weight_decay_sgd',7.34918646697045184652e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(12,2,'rise_fraction_one_cycle',0.32783511041355,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.45, "log": false}}');
INSERT INTO "trial_params" VALUES(13,3,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(14,3,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(15,3,'warmup_fraction',1.78223309965974685553e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(16,3,'peak_lr_adamw',2.21841772068647206852e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(17,3,'weight_decay_adamw',4.19562062621666120865e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"optimizer": "sgd", "schedule": "cosine", "warmup_fraction": 0.05, "final_fraction": 0.001, "peak_lr_sgd": 0.1, "weight_decay_sgd": 0.0005}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'lrsearch:slot','"e2ac3414-4805-4984-b80f-5c567d2efcc7"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'lrsearch:slot','"b257dc73-0704-4615-a929-44b155d336a9"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'lrsearch:slot','"3fa27dee-18d4-43b1-b0e6-efdc4808b6f0"');
INSERT INTO "trial_user_attributes" VALUES(6,3,'lrsearch:outcome','"pruned"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,6.66666666666666629659e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.5,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,1.66666666666666657414e-01,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-28 18:47:04.167000','2026-11-28 18:47:04.193000');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-28 18:47:04.201000','2026-11-28 18:47:04.209000');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-28 18:47:04.215000','2026-11-28 18:47:04.223000');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX lrsearch_slots_by_outcome ON lrsearch_slots (study_id, state, outcome);
CREATE INDEX ix_lrsearch_leases_study_id ON lrsearch_leases (study_id);
CREATE INDEX lrsearch_epochs_of_rung ON lrsearch_epochs (study_id, epoch);
CREATE INDEX ix_lrsearch_interruptions_study_id ON lrsearch_interruptions (study_id);
COMMIT;
