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
	rung_score FLOAT, 
	comparable BOOLEAN NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (slot_id, epoch)
);
INSERT INTO "lrsearch_epochs" VALUES('28f19877-bf1e-4298-beeb-57da86b04ee5',1,'863551e9-3ccc-4b86-9269-15e891473712',4,9.56815956092479102945e-02,1.83913204073905944824e+00,9.90383338928222611841e-01,7.83333333333333325931e-01,1.08593037923177093695e+00,0.8,0.8,1,7.92114709984161891043e-02);
INSERT INTO "lrsearch_epochs" VALUES('28f19877-bf1e-4298-beeb-57da86b04ee5',2,'863551e9-3ccc-4b86-9269-15e891473712',8,6.54853988690286270557e-02,6.88042506575584411621e-01,1.41881968180338535745e+00,0.75,9.01873652140299464363e-01,7.83333333333333325931e-01,7.83333333333333325931e-01,1,0.00960513199242996);
INSERT INTO "lrsearch_epochs" VALUES('28f19877-bf1e-4298-beeb-57da86b04ee5',3,'863551e9-3ccc-4b86-9269-15e891473712',12,2.50750000000000104749e-02,8.02118871361017227172e-01,5.09836578369140647204e-01,8.3333333333333337034e-01,4.29120477040608738761e-01,0.9,0.9,1,7.40694900014204904437e-03);
INSERT INTO "lrsearch_epochs" VALUES('28f19877-bf1e-4298-beeb-57da86b04ee5',4,'863551e9-3ccc-4b86-9269-15e891473712',16,1.19152734334640572795e-03,3.13431434333324432373e-01,0.5248046875,8.16666666666666651863e-01,5.20895862579345725329e-01,8.3333333333333337034e-01,8.3333333333333337034e-01,1,1.31199349998496472835e-02);
INSERT INTO "lrsearch_epochs" VALUES('25b943cd-e5d1-4958-8206-d07de8e986a1',1,'863551e9-3ccc-4b86-9269-15e891473712',4,2.87044786827743729148e-03,1.77463766932487487792e+00,1.04213612874348959813e+00,7.16666666666666674068e-01,1.09546864827473955372e+00,7.33333333333333281522e-01,7.33333333333333281522e-01,1,1.11178380029741674661e-02);
INSERT INTO "lrsearch_epochs" VALUES('986acab3-3cd5-4e5d-ae03-65da444c5233',1,'863551e9-3ccc-4b86-9269-15e891473712',4,2.54739439653938731637e-05,2.27465641498565673828e+00,2.26972554524739589254e+00,1.16666666666666668517e-01,2.2723856608072918739e+00,1.16666666666666668517e-01,1.16666666666666668517e-01,1,8.02312899759272113442e-03);
INSERT INTO "lrsearch_epochs" VALUES('c7a6df9e-1751-40f4-b33b-192157cfd12e',1,'863551e9-3ccc-4b86-9269-15e891473712',4,5.58373914867597576083e-02,2.00195407867431640625e+00,1.40022074381510419627e+00,6.66666666666666629659e-01,1.49248275756835946381e+00,6.83333333333333348136e-01,6.83333333333333348136e-01,1,8.89557800110196694731e-03);
INSERT INTO "lrsearch_epochs" VALUES('6b726a39-7f59-44a7-8657-45edc282174a',1,'863551e9-3ccc-4b86-9269-15e891473712',4,1.04451907384816894582e-04,2.23817384243011474609e+00,2.18269170125325517872e+00,3.33333333333333314829e-01,2.19312260945638026754e+00,3.33333333333333314829e-01,3.33333333333333314829e-01,1,1.0015067004133015871e-02);
INSERT INTO "lrsearch_epochs" VALUES('70e4d9b9-7ca1-40f3-beeb-0af38bbde3ab',1,'863551e9-3ccc-4b86-9269-15e891473712',4,5.73754860332093756351e-04,2.15366342663764953613e+00,1.9049587249755859375e+00,5.66666666666666651863e-01,1.94650179545084633936e+00,5.33333333333333325931e-01,5.33333333333333325931e-01,1,1.04018800047924742102e-02);
INSERT INTO "lrsearch_epochs" VALUES('7293d8e7-1102-47bc-8c04-128fd9e0bbb8',1,'863551e9-3ccc-4b86-9269-15e891473712',15,3.14688628368765951556e-03,1.15743293960889181981e+00,4.50811449686686183113e-01,8.3333333333333337034e-01,4.49195766448974631579e-01,0.8,0.8,1,2.10696369977085851132e-02);
INSERT INTO "lrsearch_epochs" VALUES('7293d8e7-1102-47bc-8c04-128fd9e0bbb8',2,'863551e9-3ccc-4b86-9269-15e891473712',30,2.12468600088690749705e-03,3.08958808581034360951e-01,3.98886013031005848272e-01,8.83333333333333303727e-01,3.3505226771036783484e-01,8.83333333333333303727e-01,8.83333333333333303727e-01,1,2.22997529999702237546e-02);
INSERT INTO "lrsearch_epochs" VALUES('7293d8e7-1102-47bc-8c04-128fd9e0bbb8',3,'863551e9-3ccc-4b86-9269-15e891473712',45,1.10248571808615569538e-03,2.16668169697125739814e-01,3.00135803222656261102e-01,8.83333333333333303727e-01,3.15732542673746729988e-01,8.83333333333333303727e-01,8.83333333333333303727e-01,1,1.71626830051536671817e-02);
INSERT INTO "lrsearch_epochs" VALUES('baf7f273-8191-4f3b-8258-33470545b817',1,'863551e9-3ccc-4b86-9269-15e891473712',4,4.77594949292529507298e-05,2.26926982402801513671e+00,2.25197372436523446381e+00,1.33333333333333331482e-01,2.25692774454752598245e+00,1.16666666666666668517e-01,1.16666666666666668517e-01,1,8.63361899973824620246e-03);
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
	epoch INTEGER NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (slot_id)
);
CREATE TABLE lrsearch_schema (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_schema" VALUES(1,3);
CREATE TABLE lrsearch_slots (
	id VARCHAR(36) NOT NULL, 
	study_id VARCHAR(36) NOT NULL, 
	position INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	number INTEGER, 
	origin VARCHAR(16) NOT NULL, 
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
	ended_token VARCHAR(36), 
	checkpoint VARCHAR(200), 
	checkpoint_step INTEGER, 
	weights VARCHAR(200), 
	weights_sha256 VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (study_id, position)
);
INSERT INTO "lrsearch_slots" VALUES('28f19877-bf1e-4298-beeb-57da86b04ee5','863551e9-3ccc-4b86-9269-15e891473712',0,'ended',0,'portfolio',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.088000','2026-11-27 06:25:28.230000','complete','finished',8.16666666666666651863e-01,4,NULL,NULL,'complete 0.8167',4.48123840944680273956e-01,0.849435382685069,'8a45383d-8dcc-4db8-9a8c-8f127767ccc7',NULL,NULL,'lrsearch-863551e9-3ccc-4b86-9269-15e891473712-80d3b186-f5b2-4082-a486-1c2e2ef9bcc8.safetensors','9b93a63b18e4c02a72e73c36d4bf4449e61d1604fe1342047e89902d49c2dbd7');
INSERT INTO "lrsearch_slots" VALUES('25b943cd-e5d1-4958-8206-d07de8e986a1','863551e9-3ccc-4b86-9269-15e891473712',1,'ended',1,'portfolio',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.250000','2026-11-27 06:25:28.268000','pruned','rung',7.33333333333333281522e-01,1,NULL,NULL,'pruned at epoch 1: 0.7333 below rung cut 0.8',NULL,NULL,'b2729e75-13e8-4700-ae3a-9eeeac3c040a',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('986acab3-3cd5-4e5d-ae03-65da444c5233','863551e9-3ccc-4b86-9269-15e891473712',2,'ended',2,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.278000','2026-11-27 06:25:28.292000','pruned','rung',1.16666666666666668517e-01,1,NULL,NULL,'pruned at epoch 1: 0.1167 below rung cut 0.8',NULL,NULL,'a5d69716-ea3b-407c-8753-19cc93eb1c7e',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('c7a6df9e-1751-40f4-b33b-192157cfd12e','863551e9-3ccc-4b86-9269-15e891473712',3,'ended',3,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.302000','2026-11-27 06:25:28.319000','pruned','rung',6.83333333333333348136e-01,1,NULL,NULL,'pruned at epoch 1: 0.6833 below rung cut 0.8',NULL,NULL,'563973c6-7088-4c36-a60f-843fc3a2c5ba',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('6b726a39-7f59-44a7-8657-45edc282174a','863551e9-3ccc-4b86-9269-15e891473712',4,'ended',4,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.329000','2026-11-27 06:25:28.346000','pruned','rung',3.33333333333333314829e-01,1,NULL,NULL,'pruned at epoch 1: 0.3333 below rung cut 0.8',NULL,NULL,'461348da-6fcb-444f-8d9f-f2c58b7148fc',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('70e4d9b9-7ca1-40f3-beeb-0af38bbde3ab','863551e9-3ccc-4b86-9269-15e891473712',5,'ended',5,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.356000','2026-11-27 06:25:28.374000','pruned','rung',5.33333333333333325931e-01,1,NULL,NULL,'pruned at epoch 1: 0.5333 below rung cut 0.7333',NULL,NULL,'2512471e-7633-46e9-8d15-88eafbd3e67f',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('7293d8e7-1102-47bc-8c04-128fd9e0bbb8','863551e9-3ccc-4b86-9269-15e891473712',6,'ended',6,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.385000','2026-11-27 06:25:28.456000','pruned','rung',8.83333333333333303727e-01,3,NULL,NULL,'pruned at epoch 3: 0.8833 below rung cut 0.9',NULL,NULL,'e64853ea-4d2a-46aa-bbc4-367a32b75b94',NULL,NULL,NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('baf7f273-8191-4f3b-8258-33470545b817','863551e9-3ccc-4b86-9269-15e891473712',7,'ended',7,'sampler',1,'vm:29655','cpu (1 thread)','lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed','2026-11-27 06:25:28.464000','2026-11-27 06:25:28.479000','pruned','rung',1.16666666666666668517e-01,1,NULL,NULL,'pruned at epoch 1: 0.1167 below rung cut 0.8',NULL,NULL,'4fc512f2-3a65-4609-9b4c-478f9fe3ddbc',NULL,NULL,NULL,NULL);
CREATE TABLE lrsearch_studies (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	budget_trials INTEGER, 
	budget_hours FLOAT, 
	max_failures INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	stopped VARCHAR(8), 
	version VARCHAR(40), 
	artifacts TEXT, 
	optuna_id INTEGER, 
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_studies" VALUES('863551e9-3ccc-4b86-9269-15e891473712','digits',8,NULL,5,9,'2026-11-27 06:25:28.044000',NULL,'0.1.0',NULL,1);
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
	started_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'digits');
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
INSERT INTO "study_user_attributes" VALUES(1,1,'lrsearch:spec','"{\"budget\": {\"max_failures\": 5, \"trials\": 8}, \"dataset\": {\"limit\": 300, \"name\": \"digits\", \"scaling\": \"standard\", \"split_seed\": 0, \"validation_fraction\": 0.2}, \"epochs\": 4, \"model\": {\"name\": \"mlp\"}, \"name\": \"digits\", \"objective\": {\"metric\": \"accuracy\"}, \"pruner\": {\"name\": \"asha\"}, \"sampler\": {\"n_startup_trials\": 10, \"name\": \"tpe\", \"portfolio\": true}, \"seed\": 1, \"space\": {\"batch_size\": [16, 32, 64], \"final_fraction\": {\"high\": 0.1, \"log\": true, \"low\": 0.001}, \"optimizer\": {\"adamw\": {\"beta1\": 0.9, \"beta2\": 0.999, \"eps\": 1e-08, \"peak_lr\": {\"high\": 0.1, \"log\": true, \"low\": 1e-05}, \"weight_decay\": {\"high\": 1.0, \"log\": true, \"low\": 0.01}}, \"sgd\": {\"dampening\": 0.0, \"momentum\": 0.9, \"nesterov\": false, \"peak_lr\": {\"high\": 3.0, \"log\": true, \"low\": 0.001}, \"weight_decay\": {\"high\": 0.01, \"log\": true, \"low\": 0.0001}}}, \"schedule\": {\"constant\": {}, \"cosine\": {}, \"linear\": {}, \"one_cycle\": {\"initial_fraction\": 0.04, \"rise_fraction\": {\"high\": 0.45, \"low\": 0.1}}, \"step\": {\"drops\": {\"high\": 4, \"low\": 1}}, \"wsd\": {\"decay_fraction\": {\"high\": 0.5, \"low\": 0.1}}}, \"warmup_fraction\": {\"high\": 0.2, \"low\": 0.0}}, \"training\": {\"averaging\": \"auto\", \"divergence_watch\": true, \"drop_last\": false}, \"workers\": {\"checkpoint_seconds\": 60.0, \"lease_seconds\": 60.0, \"no_progress_seconds\": 600.0, \"retries\": {\"crash\": 1, \"lost\": 3, \"out_of_memory\": 1, \"stalled\": 1, \"timed_out\": 0}}}"');
INSERT INTO "study_user_attributes" VALUES(2,1,'lrsearch:id','"863551e9-3ccc-4b86-9269-15e891473712"');
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
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,0.8,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,7.83333333333333325931e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,1,3,0.9,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,1,4,8.3333333333333337034e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,2,1,7.33333333333333281522e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,3,1,1.16666666666666668517e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,4,1,6.83333333333333348136e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,5,1,3.33333333333333314829e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,6,1,5.33333333333333325931e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,7,1,0.8,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,7,2,8.83333333333333303727e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(12,7,3,8.83333333333333303727e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(13,8,1,1.16666666666666668517e-01,'FINITE');
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
INSERT INTO "trial_params" VALUES(3,1,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(4,1,'warmup_fraction',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(5,1,'final_fraction',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(6,1,'peak_lr_sgd',0.1,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(7,1,'weight_decay_sgd',0.0005,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(8,2,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(9,2,'schedule',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(10,2,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(11,2,'warmup_fraction',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(12,2,'final_fraction',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(13,2,'peak_lr_adamw',0.003,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(14,2,'weight_decay_adamw',0.01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(15,3,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(16,3,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(17,3,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(18,3,'warmup_fraction',1.63296267124538596604e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(19,3,'peak_lr_adamw',2.54739439653938731637e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(20,3,'weight_decay_adamw',5.0867107068723216301e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(21,4,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(22,4,'schedule',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(23,4,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(24,4,'warmup_fraction',1.44350070687372045163e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(25,4,'final_fraction',3.33285682748667632865e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(26,4,'peak_lr_sgd',6.01171629936541537797e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(27,4,'weight_decay_sgd',3.86242187428571164074e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(28,5,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(29,5,'schedule',5.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(30,5,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(31,5,'warmup_fraction',8.17046706400114813861e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(32,5,'final_fraction',1.2715274114425091298e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(33,5,'peak_lr_adamw',1.04451907384816894582e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(34,5,'weight_decay_adamw',6.97954066657932581385e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(35,5,'decay_fraction_wsd',2.81697874579710405562e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.5, "log": false}}');
INSERT INTO "trial_params" VALUES(36,6,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(37,6,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(38,6,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(39,6,'warmup_fraction',1.65600615256222299942e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(40,6,'peak_lr_adamw',5.73754860332093756351e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(41,6,'weight_decay_adamw',1.28795017476666610184e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(42,7,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(43,7,'schedule',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(44,7,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(45,7,'warmup_fraction',7.45282030670404473104e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(46,7,'final_fraction',0.00295999212806961,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(47,7,'peak_lr_adamw',4.10093988096836212231e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(48,7,'weight_decay_adamw',2.25103485691448473859e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(49,8,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(50,8,'schedule',5.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(51,8,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO "trial_params" VALUES(52,8,'warmup_fraction',1.95167879378280617608e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(53,8,'final_fraction',8.41292893757644710817e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(54,8,'peak_lr_adamw',4.77594949292529507298e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(55,8,'weight_decay_adamw',5.98101507456121450623e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(56,8,'decay_fraction_wsd',3.5992836149292983805e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.5, "log": false}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"optimizer": "sgd", "schedule": "cosine", "batch_size": 64, "warmup_fraction": 0.05, "final_fraction": 0.001, "peak_lr_sgd": 0.1, "weight_decay_sgd": 0.0005}');
INSERT INTO "trial_system_attributes" VALUES(2,2,'fixed_params','{"optimizer": "adamw", "schedule": "cosine", "batch_size": 64, "warmup_fraction": 0.05, "final_fraction": 0.001, "peak_lr_adamw": 0.003, "weight_decay_adamw": 0.01}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'lrsearch:slot','"28f19877-bf1e-4298-beeb-57da86b04ee5"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'lrsearch:slot','"25b943cd-e5d1-4958-8206-d07de8e986a1"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'lrsearch:slot','"986acab3-3cd5-4e5d-ae03-65da444c5233"');
INSERT INTO "trial_user_attributes" VALUES(6,3,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(7,4,'lrsearch:slot','"c7a6df9e-1751-40f4-b33b-192157cfd12e"');
INSERT INTO "trial_user_attributes" VALUES(8,4,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(9,5,'lrsearch:slot','"6b726a39-7f59-44a7-8657-45edc282174a"');
INSERT INTO "trial_user_attributes" VALUES(10,5,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(11,6,'lrsearch:slot','"70e4d9b9-7ca1-40f3-beeb-0af38bbde3ab"');
INSERT INTO "trial_user_attributes" VALUES(12,6,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(13,7,'lrsearch:slot','"7293d8e7-1102-47bc-8c04-128fd9e0bbb8"');
INSERT INTO "trial_user_attributes" VALUES(14,7,'lrsearch:outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(15,8,'lrsearch:slot','"baf7f273-8191-4f3b-8258-33470545b817"');
INSERT INTO "trial_user_attributes" VALUES(16,8,'lrsearch:outcome','"pruned"');
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
INSERT INTO "trial_values" VALUES(1,1,0,8.16666666666666651863e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,7.33333333333333281522e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,1.16666666666666668517e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,6.83333333333333348136e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,3.33333333333333314829e-01,'FINITE');
INSERT INTO "trial_values" VALUES(6,6,0,5.33333333333333325931e-01,'FINITE');
INSERT INTO "trial_values" VALUES(7,7,0,8.83333333333333303727e-01,'FINITE');
INSERT INTO "trial_values" VALUES(8,8,0,1.16666666666666668517e-01,'FINITE');
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
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-27 06:25:28.083000','2026-11-27 06:25:28.231000');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-27 06:25:28.249000','2026-11-27 06:25:28.268000');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-27 06:25:28.277000','2026-11-27 06:25:28.293000');
INSERT INTO "trials" VALUES(4,3,1,'PRUNED','2026-11-27 06:25:28.301000','2026-11-27 06:25:28.319000');
INSERT INTO "trials" VALUES(5,4,1,'PRUNED','2026-11-27 06:25:28.328000','2026-11-27 06:25:28.346000');
INSERT INTO "trials" VALUES(6,5,1,'PRUNED','2026-11-27 06:25:28.355000','2026-11-27 06:25:28.374000');
INSERT INTO "trials" VALUES(7,6,1,'PRUNED','2026-11-27 06:25:28.384000','2026-11-27 06:25:28.456000');
INSERT INTO "trials" VALUES(8,7,1,'PRUNED','2026-11-27 06:25:28.464000','2026-11-27 06:25:28.479000');
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
